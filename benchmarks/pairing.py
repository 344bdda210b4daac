"""Paired measurement: contestants take turns, and what counts is the ratio within a turn."""

import statistics
import sys
from collections.abc import Callable, Mapping

from attrs import frozen


@frozen
class Ratio:
    """The median of paired ratios, with their range, and the median of what each side measured."""

    name: str
    unit: str
    target: str
    median: float
    low: float
    high: float
    ours: float
    reference: float

    def line(self) -> str:
        """One row for people."""
        digits = 2 if self.median >= 0.1 else 4
        spread = f"{self.median:6.{digits}f}  ({self.low:.{digits}f} to {self.high:.{digits}f})"
        return f"{self.name:<44} {spread:<26} {self.ours:9.3f} / {self.reference:<9.3f} {self.unit:<8} {self.target}"


def take_turns(
    contestants: Mapping[str, Callable[[], dict[str, float]]], repeats: int
) -> list[dict[str, dict[str, float]]]:
    """``repeats`` rounds; in each every contestant runs once, the first of one round being the last of the next."""
    rounds = []
    names = list(contestants)
    for turn in range(repeats):
        order = names if turn % 2 == 0 else names[::-1]
        rounds.append({name: contestants[name]() for name in order})
        if sys.stderr.isatty():
            print(f"  round {turn + 1} of {repeats}", file=sys.stderr)
    return rounds


def ratio(
    rounds: list[dict[str, dict[str, float]]],
    key: str,
    *,
    reference: str,
    name: str,
    unit: str,
    target: str,
    contestant: str = "ours",
) -> Ratio:
    """The contestant's ``key`` over the reference's, round by round."""
    ours = [result[contestant][key] for result in rounds]
    theirs = [result[reference][key] for result in rounds]
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(
        name=name,
        unit=unit,
        target=target,
        median=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        ours=statistics.median(ours),
        reference=statistics.median(theirs),
    )
