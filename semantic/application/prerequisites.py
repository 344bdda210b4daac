"""Look for everything that an experiment needs before its first run, not hours into it."""

from semantic.application.ports.experiments import EnvironmentProbe, RunnableExperiment
from semantic.domain.errors import MissingPrerequisiteError
from semantic.domain.experiments import EnvironmentFacts, NeedStatus, PrerequisiteCheck, check_prerequisites


def met_prerequisites(
    experiment: RunnableExperiment, model: str, environment: EnvironmentFacts, probe: EnvironmentProbe
) -> tuple[PrerequisiteCheck, ...]:
    """Every prerequisite as it stands; another version or model than declared is met, and a deviation.

    Raises :class:`MissingPrerequisiteError` with where each is declared and how to get what is missing.
    """
    needs = experiment.declaration.prerequisites
    checks = check_prerequisites(
        needs,
        model,
        environment.versions,
        probe.missing(needs.components),
        probe.model_problem(model) if needs.models else "",
    )
    absent = [check for check in checks if check.status is NeedStatus.MISSING]
    if absent:
        line = min((experiment.lines[check.name] for check in absent if check.name in experiment.lines), default=1)
        missing = "; ".join(f"{check.kind} {check.name} ({check.found}): {check.remedy}" for check in absent)
        raise MissingPrerequisiteError(
            f"{experiment.declaration.id} ({experiment.source}:{line}) needs what is not there: {missing}"
        )
    return checks
