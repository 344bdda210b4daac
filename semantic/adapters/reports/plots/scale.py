"""From values to positions, and the round values to label."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

LOG_FROM = 30.0
"""An axis is logarithmic if its largest value is so many times its smallest, and most values crowd near the latter."""

_SAME = 1e-9
"""Values that differ by less than this share of them are one value to a reader."""

_LEAST_SPAN = 1e-90

_STEPS = (1.0, 2.0, 5.0, 10.0)


@frozen
class Scale:
    """Maps ``low`` to ``start`` and ``high`` to ``end``, linearly or by the logarithm.

    ``is_whole`` keeps ticks to whole numbers: there is no run 5.5.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    is_whole: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log10(each) if self.is_log else each for each in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values within the range, both ends included where they are round."""
        if self.is_log:
            return _log_ticks(self.low, self.high, about)
        return list(_ticks(self.low, self.high, about, 1.0 if self.is_whole else 0.0))


def scale_over(values: Iterable[float], start: float, end: float, *, may_be_log: bool = True) -> Scale:
    """A scale with all of the values (at least one) inside.

    Logarithmic where they are positive, far apart and uneven; else it begins at 0 where 0 is near enough to belong.
    """
    found = list(values)
    low, high = min(found), max(found)
    if may_be_log and low > 0 and high / low >= LOG_FROM and statistics.median(found) < (low + high) / 4:
        return Scale(low / 1.15, high * 1.15, start, end, is_log=True)
    if high - low <= _SAME * max(abs(low), abs(high)) or high - low < _LEAST_SPAN:
        around = abs(low) if abs(low) > _LEAST_SPAN else 1.0
        low, high = (0.0, 2 * around) if low >= 0 else (-2 * around, 0.0)
    elif 0 <= low <= high / 2:
        low = 0.0
    margin = 0.06 * (high - low)
    low, high = low if low == 0 else low - margin, high if high == 0 else high + margin
    return Scale(low, high, start, end, is_whole=all(float(value).is_integer() for value in found))


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """``0.25``, ``512``, ``16k``, ``2.5M``: as short as tells them apart."""
    labels: list[str] = []
    for digits in range(4, 13):
        labels = [_label(tick, digits) for tick in ticks]
        if len(set(labels)) == len(labels):
            break
    return labels


def _label(value: float, digits: int) -> str:
    for size, unit, suffix in ((1e12, 1.0, ""), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= size:
            return f"{value / unit:.{digits}g}{suffix}"
    return f"{value:.{digits}g}"


def _ticks(low: float, high: float, about: int, least_step: float) -> Iterator[float]:
    rough = max((high - low) / about, least_step)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(size * magnitude for size in _STEPS if size * magnitude >= rough * 0.999)
    for count in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        yield float(f"{count * step:.12g}")  # without the dust of the product


def _log_ticks(low: float, high: float, about: int) -> list[float]:
    """1, 2 and 5 of every power of ten; where that is too many, powers alone, and then not all of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [size * 10.0**power for power in powers for size in (1, 2, 5) if low <= size * 10.0**power <= high]
    if len(fine) <= about + 2:
        return fine
    coarse = [10.0**power for power in powers if low <= 10.0**power <= high]
    return coarse[:: max(1, round(len(coarse) / about))]
