"""Tokens per second, now."""

_SPAN_S = 5
"""Long enough to hold a few steps of a slow machine, short enough to be called now."""


class TokenRate:
    """Counts by the second of the last five. One thread records, in constant time; any may read."""

    def __init__(self) -> None:
        self._seconds = [-1] * (_SPAN_S + 1)
        self._tokens = [0] * (_SPAN_S + 1)

    def record(self, now: float, tokens: int) -> None:
        """Count tokens that came at ``now``, in seconds on a clock that never goes back."""
        second = int(now)
        place = second % len(self._seconds)
        if self._seconds[place] != second:
            self._tokens[place] = 0
            self._seconds[place] = second
        self._tokens[place] += tokens

    def per_second(self, now: float) -> float:
        """Over the last five seconds, or since tokens began to come within them, at least one; 0 after five without."""
        oldest = int(now) - _SPAN_S + 1
        places = zip(self._seconds, self._tokens, strict=True)
        counted = [(second, tokens) for second, tokens in places if second >= oldest and tokens]
        if not counted:
            return 0.0
        began = min(second for second, _ in counted)
        return sum(tokens for _, tokens in counted) / max(now - began, 1.0)
