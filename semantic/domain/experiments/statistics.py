"""Medians with an honest interval, for timings on a machine that others use too."""

import statistics
from collections.abc import Sequence
from random import Random

from attrs import frozen


@frozen
class Estimate:
    """A median and its percentile bootstrap interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate_median(
    values: Sequence[float], random: Random, *, confidence: float = 0.95, resamples: int = 2_000
) -> Estimate:
    """The median and its bootstrap interval (Efron 1979, percentile method). Raises ValueError when empty."""
    if not values:
        raise ValueError("no values to estimate a median from")
    medians = sorted(statistics.median(random.choices(values, k=len(values))) for _ in range(resamples))
    tail = (1 - confidence) / 2
    low, high = medians[int(tail * resamples)], medians[min(resamples - 1, int((1 - tail) * resamples))]
    return Estimate(statistics.median(values), low, high)


def confidence_of(count: int, wanted: float = 0.95) -> float:
    """The confidence that so many values support for their median: at most 1 - 2^(1 - count).

    A bootstrap interval never leaves the range of the values, and the median lies outside that range exactly when all
    of them fell on one side of it. So 3 values support 75%, and 95% needs 6.
    """
    return min(wanted, 1 - 2.0 ** (1 - count))
