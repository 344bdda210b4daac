"""What running an experiment leaves behind. docs/results-format.md has the file that it is stored in."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from attrs import field, frozen

from semantic.domain.experiments.criteria import CriterionResult
from semantic.domain.experiments.evidence import ComparedSequence, Samples, Series
from semantic.domain.experiments.observations import Observation
from semantic.domain.experiments.parameters import Parameter
from semantic.domain.experiments.prerequisites import PrerequisiteCheck

Cell: TypeAlias = str | int | float | bool | None
"""One value of a data row."""

Kept: TypeAlias = Any
"""What a step gives back: None, numbers, texts, booleans, and lists and mappings of them."""


class Status(StrEnum):
    """Of an experiment as a whole. ``RUNNING`` is what an execution says of itself while it lasts."""

    PENDING = "pending"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"


class Decision(StrEnum):
    """What a reader should do with the result."""

    GO = "GO"
    NO_GO = "NO-GO"
    CONDITIONAL_GO = "CONDITIONAL GO"


class Verdict(StrEnum):
    """Of a hypothesis."""

    PASS = "pass"
    FAIL = "fail"
    PARTIAL = "partial"


@frozen(kw_only=True)
class RunLog:
    """One run: what it logged, why it failed if it did, and the traceback if that was an exception.

    ``is_step`` says that it was a step, which a resumed execution need not repeat; ``kept`` is what the step gave
    back, and ``caveats`` are those it noted.
    """

    number: int
    label: str
    started_at: datetime
    duration_s: float
    lines: tuple[str, ...]
    failure: str = ""
    error: str = ""
    is_step: bool = False
    kept: Kept = None
    caveats: tuple[str, ...] = ()

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


@frozen
class Artifact:
    """A file of the experiment: what it is (``script``, ``fixtures``, ``results``, ``report``), and its path."""

    kind: str
    path: str


@frozen(kw_only=True)
class Execution:
    """One execution of an experiment, complete or not.

    - ``parameters``: the values in force; ``overrides``: those of them that the caller set, not the declaration.
    - ``variant``: names one combination of a sweep, as ``kv_bits=4``; empty for an execution by itself.
    - ``started_at``, ``total_s``: begin and working time; time between an interrupt and its resumption is not counted.
    - ``resumed_at``: when it was taken up again, once for each time.
    - ``prerequisites``: each as it was found before the first run.
    - ``deviations``: where this run differs from the declaration.
    - ``runs``, ``rows``, ``observations``: log, data table, findings, in the order in which they were noted.
    - ``series``, ``samples``, ``comparisons``: what there is to plot.
    - ``caveats``: what makes a GO conditional.
    - ``stopped_early``: why it ended before its last step (the critical trigger, an interrupt, a crash outside a
      run); empty when it didn't.
    - ``script_sha256``: of the experiment's file, so that it shows when a result is older than its script.
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
    overrides: Mapping[str, Parameter] = field(factory=dict)
    variant: str = ""
    resumed_at: tuple[datetime, ...] = ()
    prerequisites: tuple[PrerequisiteCheck, ...] = ()
    series: tuple[Series, ...] = ()
    samples: tuple[Samples, ...] = ()
    comparisons: tuple[ComparedSequence, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    script_sha256: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether it got to its end, whatever it found."""
        return not self.stopped_early and self.status is not Status.RUNNING
