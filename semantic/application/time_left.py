"""How long it will still take, from what has been done since work began in earnest."""

from semantic.application.ports.clock import Clock


class TimeLeft:
    """Counts from the first report on; work that a resumed execution skips must not count as done quickly."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: tuple[float, int] | None = None

    def restart(self) -> None:
        """Forget the pace so far."""
        self._since = None

    def of(self, done: int, total: int) -> float | None:
        """Seconds left at the pace since the first report; None where nothing has been done since."""
        now = self._clock.monotonic()
        if self._since is None or done < self._since[1]:
            self._since = (now, done)
        since, done_then = self._since
        return (now - since) / (done - done_then) * (total - done) if done > done_then else None
