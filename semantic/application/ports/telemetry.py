"""Telemetry: named events with facts, for people and machines to act on."""

from typing import Any, Protocol


class Telemetry(Protocol):
    """Receives events. Must never raise into the engine, nor wait for a slow consumer."""

    def event(self, name: str, **facts: Any) -> None:
        """Record that ``name`` happened. Names are dotted: ``request.finished``."""

    def warning(self, name: str, **facts: Any) -> None:
        """Record something a person should look at; the engine goes on."""

    def error(self, name: str, **facts: Any) -> None:
        """Record a failure; the caller concerned gets the error too."""
