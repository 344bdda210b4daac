"""What an experiment measures, and against what."""

import math
from collections.abc import Callable
from enum import StrEnum

from attrs import frozen


class Level(StrEnum):
    """A ``MUST`` decides between GO and NO-GO; a ``NICE`` to have is only reported."""

    MUST = "must"
    NICE = "nice"


class Comparison(StrEnum):
    """How a measured value is held against a threshold."""

    AT_MOST = "<="
    AT_LEAST = ">="
    EXACTLY = "=="


_HOLDS: dict[Comparison, Callable[[float, float], bool]] = {
    Comparison.AT_MOST: lambda measured, limit: measured <= limit,
    Comparison.AT_LEAST: lambda measured, limit: measured >= limit,
    Comparison.EXACTLY: lambda measured, limit: measured == limit,
}


@frozen
class Threshold:
    """``comparison`` and ``value``, with the unit that both the value and the measurement are in."""

    comparison: Comparison
    value: float
    unit: str = ""

    def is_met_by(self, measured: float) -> bool:
        """Whether the measured value passes. NaN never does."""
        return not math.isnan(measured) and _HOLDS[self.comparison](measured, self.value)

    def __str__(self) -> str:
        return f"{self.comparison} {self.value:g} {self.unit}".rstrip()


def at_most(value: float, unit: str = "") -> Threshold:
    """Passes when measured <= value."""
    return Threshold(Comparison.AT_MOST, value, unit)


def at_least(value: float, unit: str = "") -> Threshold:
    """Passes when measured >= value."""
    return Threshold(Comparison.AT_LEAST, value, unit)


def exactly(value: float, unit: str = "") -> Threshold:
    """Passes when measured == value; for counts and shares, not for measured times."""
    return Threshold(Comparison.EXACTLY, value, unit)


@frozen
class Criterion:
    """One specific, measurable condition. ``id`` is what :meth:`Lab.measure` and the hypotheses name."""

    id: str
    level: Level
    statement: str
    threshold: Threshold


def must(id: str, statement: str, threshold: Threshold) -> Criterion:
    """A criterion without which the decision is NO-GO."""
    return Criterion(id, Level.MUST, statement, threshold)


def nice(id: str, statement: str, threshold: Threshold) -> Criterion:
    """A criterion that is reported and decides nothing."""
    return Criterion(id, Level.NICE, statement, threshold)


@frozen
class Measurement:
    """A value for one criterion, in the unit of its threshold, and what it rests on.

    ``low`` and ``high`` are its interval, where it was estimated. ``run`` is the run it was taken in, 0 for none.
    """

    criterion_id: str
    value: float
    evidence: str
    low: float | None = None
    high: float | None = None
    run: int = 0


@frozen
class CriterionResult:
    """One criterion, measured and judged.

    - ``threshold``: comparison, limit and unit as one text; ``comparison``, ``limit`` and ``unit`` are its parts
      (``limit`` is None only in results of schema 1, which did not keep them).
    - ``measured``: None where the run never got so far; that counts as not passed.
    - ``low``, ``high``: the interval of ``measured`` where it was estimated, else None.
    - ``run``: number of the run that measured it; 0 where that was outside of any.
    """

    criterion_id: str
    level: Level
    statement: str
    threshold: str
    measured: float | None
    passed: bool
    evidence: str
    comparison: str = ""
    limit: float | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    run: int = 0

    @property
    def is_close(self) -> bool:
        """Whether the interval reaches over the limit, so that the measurement does not settle it."""
        if self.low is None or self.high is None or self.limit is None:
            return False
        holds = Threshold(Comparison(self.comparison), self.limit).is_met_by
        return holds(self.low) != holds(self.high)

    @property
    def outcome(self) -> str:
        """One sentence for a rationale."""
        value = "not measured" if self.measured is None else f"{self.measured:.6g}"
        return f"{self.criterion_id} ({self.statement}): {value}, required {self.threshold}"


def judge(criterion: Criterion, measurement: Measurement | None) -> CriterionResult:
    """Hold a measurement, if there is one, against its criterion."""
    passed = measurement is not None and criterion.threshold.is_met_by(measurement.value)
    return CriterionResult(
        criterion_id=criterion.id,
        level=criterion.level,
        statement=criterion.statement,
        threshold=str(criterion.threshold),
        measured=None if measurement is None else measurement.value,
        passed=passed,
        evidence="not measured" if measurement is None else measurement.evidence,
        comparison=str(criterion.threshold.comparison),
        limit=criterion.threshold.value,
        unit=criterion.threshold.unit,
        low=None if measurement is None else measurement.low,
        high=None if measurement is None else measurement.high,
        run=0 if measurement is None else measurement.run,
    )
