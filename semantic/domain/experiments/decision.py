"""How a decision follows from what was measured. No judgement is left to the run itself."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from semantic.domain.experiments.criteria import CriterionResult, Level
from semantic.domain.experiments.declaration import Experiment, Hypothesis
from semantic.domain.experiments.results import (
    Decision,
    Deviation,
    EnvironmentFacts,
    HypothesisResult,
    Status,
    Verdict,
)


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


def find_deviations(
    experiment: Experiment, environment: EnvironmentFacts, model: str, missing_components: Sequence[str] = ()
) -> tuple[Deviation, ...]:
    """Where the run differs from what was declared: versions, models, code that is not there."""
    needs = experiment.prerequisites
    found = []
    for dependency in needs.dependencies:
        actual = environment.versions.get(dependency.name, "not installed")
        if (dependency.version and actual != dependency.version) or actual == "not installed":
            found.append(Deviation(dependency.name, dependency.version or "any version", actual))
    for requirement in needs.models:
        if requirement.not_run_because:
            found.append(Deviation(requirement.name, requirement.purpose, f"not run: {requirement.not_run_because}"))
    run = [requirement.name for requirement in needs.models if not requirement.not_run_because]
    if run and not any(_same_model(model, name) for name in run):
        found.append(Deviation("model", ", ".join(run), model))
    found.extend(Deviation(component, "exists", "not importable") for component in missing_components)
    return tuple(found)


def _same_model(name: str, declared: str) -> bool:
    """``smollm2-135m`` is SmolLM2-135M-Instruct, and so is ``mlx-community/SmolLM2-135M-Instruct``."""
    name, declared = name.lower().rsplit("/", 1)[-1], declared.lower().rsplit("/", 1)[-1]
    return declared.startswith(name) or name.startswith(declared)
