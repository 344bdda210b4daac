"""The system's clocks."""

import time
from datetime import UTC, datetime

from semantic.application.ports.clock import Clock


class SystemClock(Clock):
    """``time.perf_counter`` and the wall clock in UTC."""

    def monotonic(self) -> float:
        return time.perf_counter()

    def now(self) -> datetime:
        return datetime.now(UTC)
