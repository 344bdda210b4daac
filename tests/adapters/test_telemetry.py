"""Telemetry goes to standard error, and never raises into the engine."""

import json
import sys

import pytest

from semantic.adapters.telemetry import NullTelemetry, StructlogTelemetry


def test_events_are_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    StructlogTelemetry("info", json=True).event("request.finished", tokens=3)
    out, err = capsys.readouterr()
    line = json.loads(err)
    assert out == ""
    assert (line["event"], line["level"], line["tokens"]) == ("request.finished", "info", 3)
    assert line["timestamp"].endswith("Z")


def test_the_level_decides_what_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = StructlogTelemetry("warning")
    telemetry.event("quiet")
    telemetry.warning("heard")
    telemetry.error("heard", reason="disk full")
    err = capsys.readouterr().err
    assert "quiet" not in err
    assert err.count("heard") == 2
    assert "disk full" in err


def test_a_closed_standard_error_stops_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    with open("/dev/null", "w") as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        telemetry = StructlogTelemetry("info")
    telemetry.error("engine.down")


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = NullTelemetry()
    telemetry.event("a")
    telemetry.warning("b")
    telemetry.error("c")
    assert capsys.readouterr() == ("", "")
