"""From what a lab has noted to an execution with its decision."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import frozen

from semantic.application.lab import Lab
from semantic.application.ports.experiments import RunnableExperiment
from semantic.domain.experiments import (
    Artifact,
    CriterionResult,
    EnvironmentFacts,
    Execution,
    Finding,
    Observation,
    Parameter,
    PrerequisiteCheck,
    Status,
    close_calls,
    decide,
    find_deviations,
    judge,
    validate_hypothesis,
)

STILL_RUNNING = "it was still running when this was saved"


@frozen(kw_only=True)
class Setting:
    """What is fixed before the first run: who, where, with what. ``declared`` are the parameters without overrides."""

    experiment: RunnableExperiment
    model: str
    overrides: Mapping[str, Parameter]
    declared: Mapping[str, Parameter]
    variant: str
    environment: EnvironmentFacts
    checks: tuple[PrerequisiteCheck, ...]
    started_at: datetime
    resumed_at: tuple[datetime, ...]
    results: str


def conclude(lab: Lab, setting: Setting, stopped_early: str = "", *, is_running: bool = False) -> Execution:
    """Judge what the lab wrote down. While it is still running it is judged as if it had been stopped there."""
    declaration, notes = lab.experiment, lab.notebook
    stopped_early = STILL_RUNNING if is_running else stopped_early
    criteria = tuple(judge(criterion, notes.measurements.get(criterion.id)) for criterion in declaration.criteria)
    caveats = (*notes.caveats, *close_calls(criteria))
    by_id = {result.criterion_id: result for result in criteria}
    ruling = decide(criteria, caveats, notes.crashed_runs, _in_one_line(stopped_early))
    observations = tuple(notes.observations)
    if not stopped_early:
        observations += _forgotten(setting.experiment, criteria)
    return Execution(
        experiment_id=declaration.id,
        title=declaration.title,
        status=Status.RUNNING if is_running else ruling.status,
        profile=lab.profile,
        model=setting.model,
        parameters=lab.parameters,
        started_at=setting.started_at,
        total_s=lab.elapsed_s,
        environment=setting.environment,
        deviations=find_deviations(setting.checks, setting.overrides, setting.declared),
        runs=tuple(notes.runs),
        rows=tuple(notes.rows),
        observations=observations,
        caveats=caveats,
        criteria=criteria,
        hypotheses=tuple(validate_hypothesis(hypothesis, by_id) for hypothesis in declaration.hypotheses),
        decision=ruling.decision,
        rationale=ruling.rationale,
        stopped_early=stopped_early,
        overrides=setting.overrides,
        variant=setting.variant,
        resumed_at=setting.resumed_at,
        prerequisites=setting.checks,
        series=tuple(line.drawn() for line in notes.lines.values() if line.points),
        samples=tuple(notes.samples),
        comparisons=tuple(notes.comparisons),
        artifacts=(
            Artifact("script", setting.experiment.source),
            *(Artifact("fixtures", path) for path in setting.experiment.fixtures),
            Artifact("results", setting.results),
        ),
        script_sha256=setting.experiment.sha256,
    )


def _forgotten(experiment: RunnableExperiment, criteria: Sequence[CriterionResult]) -> tuple[Observation, ...]:
    """Criteria that a run which came to its end never measured: the author's mistake, so it says where."""
    return tuple(
        Observation(
            Finding.ISSUE,
            f"{experiment.source}:{experiment.lines.get(result.criterion_id, 1)}: criterion {result.criterion_id} is "
            "declared and was not measured",
        )
        for result in criteria
        if result.measured is None
    )


def _in_one_line(text: str) -> str:
    """Of a traceback, the last line says what happened; of anything else, the first is the whole."""
    lines = text.strip().splitlines()
    return "" if not lines else lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"
