"""Telemetry: structured lines on standard error, or silence."""

import logging
import sys
from typing import Any

import structlog

from semantic.application.ports.telemetry import Telemetry


class NullTelemetry(Telemetry):
    """Says nothing. The default for embedders who did not ask for logs."""

    def event(self, name: str, **facts: Any) -> None:
        return

    def warning(self, name: str, **facts: Any) -> None:
        return

    def error(self, name: str, **facts: Any) -> None:
        return


class StructlogTelemetry(Telemetry):
    """One line per event on standard error: ``event`` at info level, the others at their own.

    Has its own logger: structlog's global configuration belongs to the program that embeds this library.
    """

    def __init__(self, level: str = "warning", *, json: bool = False) -> None:
        renderer = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=_colours())
        self._log: Any = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                renderer,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        )

    def event(self, name: str, **facts: Any) -> None:
        self._write("info", name, facts)

    def warning(self, name: str, **facts: Any) -> None:
        self._write("warning", name, facts)

    def error(self, name: str, **facts: Any) -> None:
        self._write("error", name, facts)

    def _write(self, level: str, name: str, facts: dict[str, Any]) -> None:
        try:
            getattr(self._log, level)(name, **facts)
        except (OSError, ValueError):  # a closed or full standard error must not stop the engine
            return


def _colours() -> bool:
    return sys.stderr.isatty()
