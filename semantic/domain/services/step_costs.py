"""What a decode step costs that feeds more tokens than it has rows, and how long a draft is worth it."""

from bisect import bisect_right
from collections.abc import Sequence

from attrs import frozen

_CURVE = ((1, 1.0), (2, 1.15), (4, 1.35), (8, 1.5), (16, 1.9), (32, 2.7))
"""Tokens fed, and what the step takes of one that feeds a single token: the default model on two cores (ADR 0021)."""

_MARGIN = 1.05
"""A draft has to promise so much more tokens a second, or it isn't tried."""

_NEW = 0.1
"""Weight of a new measurement."""

_SLOWEST = 3.0
"""A step that took longer than this many times what was expected was disturbed, and counts as this."""


@frozen
class Length:
    """So many tokens of a draft are worth feeding; ``expected`` of them are right on average."""

    tokens: int = 0
    expected: float = 0.0


class StepCosts:
    """The shape of the cost curve is given; how steep it is on this machine is measured.

    A step's seconds are held against those of steps that fed as many rows without drafts. Where wide forwards are
    nearly free, as on a GPU, the factor sinks and drafts become longer; on a busy machine it rises.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # of a step without drafts, by its rows
        self._steepness = 1.0

    def measured(self, rows: int, fed: int, seconds: float) -> None:
        """Note what a step of so many rows took that fed so many tokens."""
        plain = self._seconds.get(rows)
        if fed == rows:
            expected = seconds if plain is None else min(seconds, _SLOWEST * plain)
            self._seconds[rows] = expected if plain is None else plain + _NEW * (expected - plain)
        elif plain:
            surplus = (seconds / plain - 1.0) / (_curve(fed) / _curve(rows) - 1.0)
            self._steepness += _NEW * (min(max(surplus, 0.1), _SLOWEST) - self._steepness)

    def cost(self, fed: int) -> float:
        """What a step takes, in steps that feed a single token."""
        return 1.0 + self._steepness * (_curve(fed) - 1.0)

    def worthwhile(self, chances: Sequence[float], fed: int, expected: float) -> Length:
        """How much of a draft to add to a step that feeds ``fed`` tokens already and draws ``expected`` of them.

        What counts is tokens drawn for the time of a step, whichever sequences they belong to.
        """
        best, best_rate = Length(), _MARGIN * expected / self.cost(fed)
        all_right, gained = 1.0, 0.0
        for tokens, chance in enumerate(chances, start=1):
            all_right *= chance
            gained += all_right
            rate = (expected + gained) / self.cost(fed + tokens)
            if rate > best_rate:
                best, best_rate = Length(tokens, gained), rate
        return best


def _curve(fed: int) -> float:
    """The curve between its points, and straight on behind the last."""
    place = min(max(bisect_right(_CURVE, (fed, float("inf"))), 1), len(_CURVE) - 1)
    (left, below), (right, above) = _CURVE[place - 1 : place + 1]
    return below + (above - below) * (fed - left) / (right - left)
