"""What callers wait for, as the engine's thread hands it over."""

from attrs import define, field

from semantic.application.sliding_window import SlidingWindow
from semantic.application.token_rate import TokenRate

REQUESTS, GAPS = 1_000, 10_000
"""How many of the last first tokens and gaps between tokens are remembered."""


@define(eq=False)
class Progress:
    """A request's: seconds on the engine's clock at its submission, and at its newest token."""

    submitted_at: float
    newest_at: float | None = None


@define(eq=False)
class Latencies:
    """Seconds from submission to the first token, and between a request's deltas that bring tokens.

    A delta of several tokens is one gap: that is how long its reader has waited.
    """

    ttft_s: SlidingWindow = field(factory=lambda: SlidingWindow(REQUESTS))
    token_gap_s: SlidingWindow = field(factory=lambda: SlidingWindow(GAPS))
    rate: TokenRate = field(factory=TokenRate)

    def record(self, progress: Progress, tokens: int, now: float) -> None:
        """Tokens of a request are handed over at ``now``."""
        if progress.newest_at is None:
            self.ttft_s.record(now - progress.submitted_at)
        else:
            self.token_gap_s.record(now - progress.newest_at)
        progress.newest_at = now
        self.rate.record(now, tokens)
