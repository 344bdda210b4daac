"""What running an experiment leaves behind."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from attrs import frozen

from semantic.domain.experiments.criteria import CriterionResult
from semantic.domain.experiments.declaration import Parameter

Cell: TypeAlias = str | int | float | bool | None
"""One value of a data row."""


class Status(StrEnum):
    """Of an experiment as a whole."""

    PENDING = "pending"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"


class Decision(StrEnum):
    """What a reader should do with the result."""

    GO = "GO"
    NO_GO = "NO-GO"
    CONDITIONAL_GO = "CONDITIONAL GO"


class Finding(StrEnum):
    """The template's three kinds of observation."""

    POSITIVE = "positive"
    ISSUE = "issue"
    ANOMALY = "anomaly"


class Verdict(StrEnum):
    """Of a hypothesis."""

    PASS = "pass"
    FAIL = "fail"
    PARTIAL = "partial"


@frozen
class Observation:
    """Something seen that no criterion asks for."""

    kind: Finding
    text: str


@frozen(kw_only=True)
class RunLog:
    """One run: what it logged, why it failed if it did, and the traceback if that was an exception."""

    number: int
    label: str
    started_at: datetime
    duration_s: float
    lines: tuple[str, ...]
    failure: str = ""
    error: str = ""

    @property
    def crashed(self) -> bool:
        """Whether an exception ended it."""
        return bool(self.error)


@frozen
class DataRow:
    """One row of the data table, belonging to the run of this number."""

    run: int
    cells: Mapping[str, Cell]


@frozen
class Deviation:
    """Where this run differs from what the declaration states."""

    subject: str
    declared: str
    actual: str


@frozen
class HypothesisResult:
    """The verdict on one hypothesis, with the outcomes it rests on."""

    statement: str
    verdict: Verdict
    evidence: str


@frozen(kw_only=True)
class EnvironmentFacts:
    """The machine and the code. ``commit`` is empty outside a repository."""

    commit: str
    dirty: bool
    python: str
    platform: str
    cpu: str
    device: str
    dtype: str
    versions: Mapping[str, str]


@frozen(kw_only=True)
class Execution:
    """One execution of an experiment, complete or not.

    ``stopped_early`` says why it ended before its last step (the critical trigger, an interrupt, a crash
    outside a run); empty when it didn't. ``caveats`` are what makes a GO conditional.
    """

    experiment_id: str
    title: str
    status: Status
    profile: str
    model: str
    parameters: Mapping[str, Parameter]
    started_at: datetime
    total_s: float
    environment: EnvironmentFacts
    deviations: tuple[Deviation, ...]
    runs: tuple[RunLog, ...]
    rows: tuple[DataRow, ...]
    observations: tuple[Observation, ...]
    caveats: tuple[str, ...]
    criteria: tuple[CriterionResult, ...]
    hypotheses: tuple[HypothesisResult, ...]
    decision: Decision
    rationale: str
    stopped_early: str = ""

    def summary(self) -> "ExecutionSummary":
        """What the history keeps."""
        return ExecutionSummary(
            started_at=self.started_at,
            profile=self.profile,
            model=self.model,
            decision=self.decision,
            commit=self.environment.commit,
            versions=self.environment.versions,
            total_s=self.total_s,
            measured={result.criterion_id: result.measured for result in self.criteria},
        )


@frozen(kw_only=True)
class ExecutionSummary:
    """One line of the history of executions."""

    started_at: datetime
    profile: str
    model: str
    decision: Decision
    commit: str
    versions: Mapping[str, str]
    total_s: float
    measured: Mapping[str, float | None]


@frozen(kw_only=True)
class ResultsDocument:
    """The latest execution in full, and the ones before it in brief, latest first."""

    latest: Execution
    history: tuple[ExecutionSummary, ...] = ()

    def followed_by(self, execution: Execution, keep: int) -> "ResultsDocument":
        """A document with ``execution`` as the latest, which remembers at most ``keep`` earlier ones."""
        return ResultsDocument(latest=execution, history=(self.latest.summary(), *self.history)[:keep])
