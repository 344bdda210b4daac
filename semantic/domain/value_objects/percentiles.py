"""How long things take: what half of them, nine in ten and ninety-nine in a hundred stay within."""

import math
from collections.abc import Iterable

from attrs import frozen


@frozen
class Percentiles:
    """Of ``count`` values. A percentile is one of them, not an average of two (nearest rank)."""

    count: int
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Percentiles | None":
        """None where there are no values."""
        ordered = sorted(values)
        if not ordered:
            return None
        ranks = (ordered[math.ceil(share * len(ordered) / 100) - 1] for share in (50, 90, 99))
        return cls(len(ordered), *ranks)
