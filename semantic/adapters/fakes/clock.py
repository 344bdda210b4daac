"""A clock that only moves when told to."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Starts at 0 s and 2026-01-01. Every reading moves it on by ``tick`` seconds; :meth:`advance` by more."""

    def __init__(self, tick: float = 0.0) -> None:
        self._tick, self._seconds = tick, 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += seconds

    def monotonic(self) -> float:
        """Seconds since the start."""
        self._seconds += self._tick
        return self._seconds

    def now(self) -> datetime:
        """The start's date plus what has passed."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._seconds)
