"""Telemetry that remembers."""

from typing import Any

from attrs import frozen


@frozen
class Recorded:
    """One event as it was reported."""

    level: str
    name: str
    facts: dict[str, Any]


class RecordingTelemetry:
    """Keeps every event in ``events``, in order."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []

    def event(self, name: str, **facts: Any) -> None:
        """Remember an event."""
        self.events.append(Recorded("info", name, facts))

    def warning(self, name: str, **facts: Any) -> None:
        """Remember a warning."""
        self.events.append(Recorded("warning", name, facts))

    def error(self, name: str, **facts: Any) -> None:
        """Remember an error."""
        self.events.append(Recorded("error", name, facts))

    def named(self, name: str) -> list[Recorded]:
        """The events of one name."""
        return [event for event in self.events if event.name == name]
