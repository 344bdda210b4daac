"""Two ways of doing the same, timed side by side so that a machine whose speed drifts slows both alike (ADR 0018)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from semantic.domain.experiments import Cell

if TYPE_CHECKING:
    from semantic.application.lab import Lab

Timed: TypeAlias = Callable[[], float | None]
"""Does the work once. Gives seconds if it has measured them itself (in another process), else None."""


@frozen
class PairedTimes:
    """Seconds of both, pair by pair, in the order in which the pairs were taken. Crashed pairs are missing."""

    first_s: tuple[float, ...]
    second_s: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """First over second, of each pair."""
        return tuple(first / second for first, second in zip(self.first_s, self.second_s, strict=True))


def take_pairs(
    lab: "Lab",
    name: str,
    first: tuple[str, Timed],
    second: tuple[str, Timed],
    pairs: int,
    warm_up: int,
    begin_with_second: bool,
) -> PairedTimes:
    """Warm both up, then take the pairs, each a step. Who begins alternates from pair to pair."""
    labels = [f"{name}, pair {number}" for number in range(1, pairs + 1)]
    if warm_up and not all(lab.is_done(label) for label in labels):
        with lab.run(f"{name}, warm-up"):
            for _ in range(warm_up):
                for _, work in (first, second):
                    work()
    taken = [
        lab.step(label, lambda swap=swap: _take_pair(lab, name, first, second, swap))  # type: ignore[misc]
        for label, swap in zip(labels, _alternating(pairs, begin_with_second), strict=True)
    ]
    whole = [pair for pair in taken if pair is not None]
    return PairedTimes(tuple(pair[0] for pair in whole), tuple(pair[1] for pair in whole))


def _alternating(pairs: int, begin_with_second: bool) -> list[bool]:
    return [(number % 2 == 1) is not begin_with_second for number in range(pairs)]


def _take_pair(
    lab: "Lab", name: str, first: tuple[str, Timed], second: tuple[str, Timed], swap: bool
) -> tuple[float, float]:
    order = (second, first) if swap else (first, second)
    times = {label: _seconds(lab, work) for label, work in order}
    first_s, second_s = times[first[0]], times[second[0]]
    cells: dict[str, Cell] = {
        "Timed": name,
        "First": order[0][0],
        f"{first[0]} (s)": first_s,
        f"{second[0]} (s)": second_s,
        "Ratio": first_s / second_s,
    }
    lab.row(**cells)
    lab.log(f"{name}: {first[0]} {first_s:.4f} s, {second[0]} {second_s:.4f} s, ratio {first_s / second_s:.3f}")
    return first_s, second_s


def _seconds(lab: "Lab", work: Timed) -> float:
    start = lab.clock.monotonic()
    own = work()
    return lab.clock.monotonic() - start if own is None else own
