"""Whether an execution may go on where an interrupted one ended: only if everything that it rests on is the same."""

from collections.abc import Iterator, Mapping

from semantic.application.ports.experiments import RunnableExperiment
from semantic.domain.errors import CannotResumeError
from semantic.domain.experiments import EnvironmentFacts, Execution, Parameter


def check_resumable(
    earlier: Execution,
    experiment: RunnableExperiment,
    profile: str,
    parameters: Mapping[str, Parameter],
    model: str,
    environment: EnvironmentFacts,
) -> None:
    """Raises :class:`CannotResumeError` naming every difference."""
    differences = "; ".join(_differences(earlier, experiment, profile, parameters, model, environment))
    if differences:
        raise CannotResumeError(
            f"{earlier.experiment_id} of {earlier.started_at:%Y-%m-%d %H:%M} can't be resumed: {differences}; "
            "run it without --resume"
        )


def _differences(
    earlier: Execution,
    experiment: RunnableExperiment,
    profile: str,
    parameters: Mapping[str, Parameter],
    model: str,
    environment: EnvironmentFacts,
) -> Iterator[str]:
    before, now = earlier.environment, environment
    facts = {
        "profile": (earlier.profile, profile),
        "model": (earlier.model, model),
        "commit": (before.commit, now.commit),
        "script": (earlier.script_sha256[:12], experiment.sha256[:12]),
        "python": (before.python, now.python),
        "platform": (before.platform, now.platform),
        "device": (f"{before.device} {before.dtype}", f"{now.device} {now.dtype}"),
    }
    names = dict.fromkeys([*before.versions, *now.versions])
    facts |= {name: (before.versions.get(name, "-"), now.versions.get(name, "-")) for name in names}
    names = dict.fromkeys([*earlier.parameters, *parameters])
    facts |= {
        f"parameter {name}": (str(earlier.parameters.get(name, "-")), str(parameters.get(name, "-"))) for name in names
    }
    for name, (then, here) in facts.items():
        if then != here:
            yield f"{name} was {then}, is {here}"
