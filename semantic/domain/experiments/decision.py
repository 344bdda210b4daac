"""How a decision follows from what was measured (ADR 0016). No judgement is left to the run itself."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from semantic.domain.experiments.criteria import CriterionResult, Level
from semantic.domain.experiments.declaration import Hypothesis
from semantic.domain.experiments.parameters import Parameter
from semantic.domain.experiments.prerequisites import Need, NeedStatus, PrerequisiteCheck
from semantic.domain.experiments.results import Decision, Deviation, HypothesisResult, Status, Verdict


@frozen
class Ruling:
    """The decision and the reasons for it, in one paragraph."""

    decision: Decision
    rationale: str

    @property
    def status(self) -> Status:
        """A CONDITIONAL GO has passed; its caveats travel with it."""
        return Status.FAILED if self.decision is Decision.NO_GO else Status.PASSED


def decide(
    criteria: Sequence[CriterionResult],
    caveats: Sequence[str] = (),
    crashed_runs: int = 0,
    stopped_early: str = "",
) -> Ruling:
    """NO-GO if a must failed or was not measured, a run crashed, or the experiment ended early.

    Otherwise CONDITIONAL GO if caveats were recorded, else GO. Nice-to-haves are named and decide nothing.
    """
    musts = [result for result in criteria if result.level is Level.MUST]
    failed = [result.outcome for result in musts if not result.passed]
    missed = [result.outcome for result in criteria if result.level is Level.NICE and not result.passed]
    against = failed
    if crashed_runs:
        against = [*against, f"{crashed_runs} {'run' if crashed_runs == 1 else 'runs'} crashed"]
    if stopped_early:
        against = [*against, f"stopped early: {stopped_early}"]
    if against:
        return Ruling(Decision.NO_GO, _sentences("Not passed", against, missed))
    passed = f"All {len(musts)} must-pass criteria passed"
    if caveats:
        return Ruling(Decision.CONDITIONAL_GO, _sentences(f"{passed}, with caveats", caveats, missed))
    return Ruling(Decision.GO, _sentences(passed, (), missed))


def _sentences(head: str, points: Sequence[str], missed: Sequence[str]) -> str:
    text = f"{head}: {'; '.join(points)}." if points else f"{head}."
    return f"{text} Nice to have, missed: {'; '.join(missed)}." if missed else text


def validate_hypothesis(hypothesis: Hypothesis, results: Mapping[str, CriterionResult]) -> HypothesisResult:
    """PASS if every criterion it rests on passed, FAIL if none did, else PARTIAL."""
    rests_on = [results[criterion_id] for criterion_id in hypothesis.criteria]
    passed = sum(result.passed for result in rests_on)
    verdict = Verdict.PASS if passed == len(rests_on) else Verdict.PARTIAL if passed else Verdict.FAIL
    evidence = "; ".join(f"{result.outcome}. {result.evidence}" for result in rests_on)
    return HypothesisResult(hypothesis.statement, verdict, evidence)


def close_calls(criteria: Sequence[CriterionResult]) -> tuple[str, ...]:
    """Caveats for must-pass criteria that passed by a value whose interval reaches over the limit."""
    return tuple(
        f"{result.outcome}, but its interval [{result.low:.6g}, {result.high:.6g}] reaches over that: measure more"
        for result in criteria
        if result.level is Level.MUST and result.passed and result.is_close
    )


def find_deviations(
    checks: Sequence[PrerequisiteCheck],
    overrides: Mapping[str, Parameter] | None = None,
    declared: Mapping[str, Parameter] | None = None,
) -> tuple[Deviation, ...]:
    """Where the run differs from what was declared: versions, models, parameters that the caller set.

    ``declared`` are the parameters without the caller's ``overrides``.
    """
    found = [
        Deviation(check.name, check.purpose if check.kind is Need.MODEL else check.wanted, check.found)
        for check in checks
        if check.status is not NeedStatus.MET
    ]
    for name, value in (overrides or {}).items():
        before = (declared or {}).get(name)
        if before != value:
            found.append(Deviation(f"parameter {name}", str(before), f"{value} (set by the caller)"))
    return tuple(found)
