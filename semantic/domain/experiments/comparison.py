"""Two executions side by side: what differs about them, and what of the measured really changed."""

from collections.abc import Iterator, Mapping
from enum import StrEnum

from attrs import frozen

from semantic.domain.experiments.evidence import Samples
from semantic.domain.experiments.history import ExecutionSummary, MeasuredValue
from semantic.domain.experiments.parameters import parameter_text


class Change(StrEnum):
    """What can be said of one measured value.

    ``VERDICT``: one passed and the other did not. ``SIGNIFICANT``: both intervals lie apart. ``NOISE``: they overlap.
    ``DIFFERS``: the values differ, and one of them at least has no interval to tell by. ``MISSING``: only one has it.
    """

    VERDICT = "verdict changed"
    SIGNIFICANT = "changed"
    DIFFERS = "differs"
    NOISE = "within noise"
    SAME = "same"
    MISSING = "only in one"

    @property
    def is_notable(self) -> bool:
        """Whether a reader should look at it."""
        return self in (Change.VERDICT, Change.SIGNIFICANT, Change.MISSING)


@frozen
class ComparedFact:
    """Something about machine, code or parameters that is not the same in both; empty where one has none."""

    name: str
    first: str
    second: str


@frozen
class ComparedValue:
    """A criterion, or a repeated measurement, of both. ``ratio`` is second over first, None where that says nothing."""

    name: str
    first: MeasuredValue | None
    second: MeasuredValue | None
    change: Change
    ratio: float | None = None


@frozen(kw_only=True)
class Side:
    """One execution to compare. ``label`` says where it came from; of those in the history there are no samples."""

    label: str
    summary: ExecutionSummary
    samples: tuple[Samples, ...] = ()


@frozen(kw_only=True)
class ComparedExecutions:
    """``facts`` are those that differ, ``values`` all criteria, then all samples that both have."""

    first: Side
    second: Side
    facts: tuple[ComparedFact, ...]
    values: tuple[ComparedValue, ...]

    @property
    def are_verdicts_same(self) -> bool:
        """Whether both came to the same decision, and to the same verdict on every criterion."""
        same_decision = self.first.summary.decision is self.second.summary.decision
        return same_decision and not any(value.change is Change.VERDICT for value in self.values)


def compare_executions(first: Side, second: Side) -> ComparedExecutions:
    """Hold two executions of one experiment side by side."""
    before, after = first.summary.measured, second.summary.measured
    criteria = [_compare(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]
    one, other = _by_name(first.samples), _by_name(second.samples)
    samples = [_compare(name, one[name], other[name]) for name in one if name in other]
    return ComparedExecutions(
        first=first,
        second=second,
        facts=tuple(_facts(first.summary, second.summary)),
        values=(*criteria, *samples),
    )


def _by_name(samples: tuple[Samples, ...]) -> dict[str, MeasuredValue]:
    return {
        f"{taken.figure}: {taken.name}": MeasuredValue(
            value=taken.estimate.median, low=taken.estimate.low, high=taken.estimate.high
        )
        for taken in samples
    }


def _compare(name: str, first: MeasuredValue | None, second: MeasuredValue | None) -> ComparedValue:
    if first is None or second is None or first.value is None or second.value is None:
        both_empty = (first is None or first.value is None) and (second is None or second.value is None)
        return ComparedValue(name, first, second, Change.SAME if both_empty else Change.MISSING)
    ratio = second.value / first.value if first.value else None
    return ComparedValue(name, first, second, _change(first, second), ratio)


def _change(first: MeasuredValue, second: MeasuredValue) -> Change:
    if first.passed is not None and second.passed is not None and first.passed is not second.passed:
        return Change.VERDICT
    if first.value == second.value:
        return Change.SAME
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Change.DIFFERS
    return Change.SIGNIFICANT if first.high < second.low or second.high < first.low else Change.NOISE


def _facts(first: ExecutionSummary, second: ExecutionSummary) -> Iterator[ComparedFact]:
    one, other = _described(first), _described(second)
    for name in dict.fromkeys([*one, *other]):
        if one.get(name, "") != other.get(name, ""):
            yield ComparedFact(name, one.get(name, ""), other.get(name, ""))


def _described(summary: ExecutionSummary) -> Mapping[str, str]:
    facts = summary.environment
    dirty = " with changes" if facts.dirty else ""
    return {
        "decision": str(summary.decision),
        "started": f"{summary.started_at:%Y-%m-%d %H:%M}",
        "complete": "no: " + summary.stopped_early.splitlines()[0] if summary.stopped_early else "yes",
        "profile": summary.profile,
        "model": summary.model,
        "commit": facts.commit[:12] + dirty,
        "python": facts.python,
        "platform": facts.platform,
        "cpu": facts.cpu,
        "device": f"{facts.device} {facts.dtype}",
        **facts.versions,
        **{f"parameter {name}": parameter_text(value) for name, value in summary.parameters.items()},
    }
