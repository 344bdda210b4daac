"""The system's clocks and memory counters."""

from datetime import UTC, datetime, timedelta

import pytest

from semantic.adapters.clock import SystemClock


def test_monotonic_time_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


def test_the_wall_clock_is_in_utc_and_right() -> None:
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=5)


@pytest.mark.mlx
def test_mlx_and_resident_memory_see_an_array() -> None:
    import mlx.core as mx

    from semantic.adapters.mlx.memory_probe import MLXMemoryProbe

    probe = MLXMemoryProbe()
    before = probe.read()
    array = mx.ones((1 << 20,))
    mx.eval(array)
    during = probe.read()
    assert during.device_active - before.device_active >= 4 << 20
    assert during.resident > 0
    del array
    probe.reset_peak()
    assert probe.read().device_peak < during.device_peak + 1
