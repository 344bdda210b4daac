"""What every clock, telemetry and memory probe does, fake or real."""

from datetime import UTC

import pytest

from semantic.adapters.clock import SystemClock
from semantic.adapters.fakes import FakeClock, RecordingTelemetry
from semantic.adapters.fakes.experiments import FakeMemoryProbe
from semantic.adapters.telemetry import NullTelemetry, StructlogTelemetry
from semantic.application.ports.clock import Clock
from semantic.application.ports.memory_probe import MemoryProbe
from semantic.application.ports.telemetry import Telemetry


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock(), FakeClock(tick=0.5)], ids=["system", "fake", "ticking"])
def test_a_clock_never_goes_back_and_knows_its_time_zone(clock: Clock) -> None:
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)
    first, second = clock.now(), clock.now()
    assert first <= second
    assert first.tzinfo is UTC


@pytest.mark.parametrize("make", [NullTelemetry, StructlogTelemetry, RecordingTelemetry])
def test_telemetry_takes_any_facts_and_never_raises(make: type[Telemetry]) -> None:
    telemetry = make()
    for report in (telemetry.event, telemetry.warning, telemetry.error):
        report("request.finished", tokens=3, text="日本 \ud800", nothing=None, odd=object())
        report("without.facts")


def memory_probe(kind: str) -> MemoryProbe:
    if kind == "fake":
        return FakeMemoryProbe(growth=10)
    from semantic.adapters.mlx.memory_probe import MLXMemoryProbe

    return MLXMemoryProbe()


@pytest.mark.parametrize("kind", ["fake", pytest.param("mlx", marks=pytest.mark.mlx)])
def test_a_memory_probe_reads_bytes(kind: str) -> None:
    probe = memory_probe(kind)
    probe.reset_peak()
    reading = probe.read()
    assert reading.resident > 1_000_000
    assert min(reading.device_active, reading.device_cache, reading.device_peak) >= 0
