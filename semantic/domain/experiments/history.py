"""The executions of one experiment: the latest in full, the earlier ones in brief."""

from collections.abc import Mapping
from datetime import datetime

from attrs import evolve, field, frozen

from semantic.domain.experiments.parameters import Parameter
from semantic.domain.experiments.results import Decision, EnvironmentFacts, Execution


@frozen(kw_only=True)
class MeasuredValue:
    """What the history remembers of one criterion: value and interval (None where there is none), and its verdict.

    ``passed`` is None for executions stored by schema 1, which did not keep it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    passed: bool | None = None
    threshold: str = ""


@frozen(kw_only=True)
class ExecutionSummary:
    """One line of the history of executions. ``measured`` is by the criteria's ids."""

    started_at: datetime
    profile: str
    model: str
    decision: Decision
    total_s: float
    environment: EnvironmentFacts
    measured: Mapping[str, MeasuredValue]
    parameters: Mapping[str, Parameter] = field(factory=dict)
    variant: str = ""
    stopped_early: str = ""

    @property
    def commit(self) -> str:
        """Of the code that ran."""
        return self.environment.commit

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the distributions that ran."""
        return self.environment.versions


def summarise(execution: Execution) -> ExecutionSummary:
    """What the history keeps."""
    return ExecutionSummary(
        started_at=execution.started_at,
        profile=execution.profile,
        model=execution.model,
        decision=execution.decision,
        total_s=execution.total_s,
        environment=execution.environment,
        measured={
            result.criterion_id: MeasuredValue(
                value=result.measured,
                low=result.low,
                high=result.high,
                passed=result.passed,
                threshold=result.threshold,
            )
            for result in execution.criteria
        },
        parameters=execution.parameters,
        variant=execution.variant,
        stopped_early=execution.stopped_early,
    )


@frozen(kw_only=True)
class ResultsDocument:
    """The latest execution in full, and the ones before it in brief, latest first."""

    latest: Execution
    history: tuple[ExecutionSummary, ...] = ()

    def followed_by(self, execution: Execution, keep: int) -> "ResultsDocument":
        """A document with ``execution`` as the latest, which remembers at most ``keep`` earlier ones."""
        return ResultsDocument(latest=execution, history=(summarise(self.latest), *self.history)[:keep])

    def continued_by(self, execution: Execution) -> "ResultsDocument":
        """A document in which ``execution`` takes the place of the latest one, which it goes on from."""
        return evolve(self, latest=execution)
