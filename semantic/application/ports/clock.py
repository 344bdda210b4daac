"""Time comes in through a port, so that tests own it."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds for durations, wall-clock time for records."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""

    def now(self) -> datetime:
        """The present moment, timezone-aware (UTC)."""
