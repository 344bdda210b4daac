"""The lab: what an experiment works with, and where it writes down what it saw."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any

from attrs import define, field

from semantic.application.ports.clock import Clock
from semantic.application.ports.engine import EngineFactory
from semantic.application.ports.engine_process import EngineProcesses
from semantic.application.ports.experiments import Progress, ProgressListener
from semantic.application.ports.memory_probe import MemoryProbe
from semantic.application.ports.quality import QualityProbes
from semantic.application.ports.stores import Stores
from semantic.application.reference_session import ReferenceSession
from semantic.domain.errors import ExperimentDeclarationError
from semantic.domain.experiments import (
    Cell,
    DataRow,
    Experiment,
    Finding,
    Measurement,
    Observation,
    RunLog,
)


class StoppedByTrigger(Exception):
    """The experiment's critical trigger fired. The runner ends the experiment; nobody else catches this."""


@define
class _OpenRun:
    lines: list[str] = field(factory=list)
    failure: str = ""


class Lab:
    """Injected tools and a notebook.

    ``parameters`` are the experiment's, overlaid with the profile's and the caller's. ``random`` is seeded with
    the parameter ``seed`` (0 where there is none). Nothing done with the lab touches files or global state.
    """

    def __init__(
        self,
        *,
        experiment: Experiment,
        profile: str,
        parameters: Mapping[str, Any],
        engines: EngineFactory,
        processes: EngineProcesses,
        stores: Stores,
        reference: ReferenceSession,
        quality: QualityProbes,
        clock: Clock,
        memory: MemoryProbe,
        listener: ProgressListener | None = None,
    ) -> None:
        self.experiment = experiment
        self.profile = profile
        self.parameters = parameters
        self.engines = engines
        self.processes = processes
        self.stores = stores
        self.reference = reference
        self.quality = quality
        self.clock = clock
        self.memory = memory
        self.random = Random(int(parameters.get("seed", 0)))
        self.runs: list[RunLog] = []
        self.rows: list[DataRow] = []
        self.observations: list[Observation] = []
        self.caveats: list[str] = []
        self.measurements: dict[str, Measurement] = {}
        self._listener = listener
        self._open: _OpenRun | None = None
        self._failures_in_a_row = 0

    @contextmanager
    def run(self, label: str) -> Iterator[None]:
        """One run of the experiment: the unit of the execution log, and of the critical trigger.

        An exception inside ends this run, not the experiment: its traceback is kept. Runs do not nest.
        """
        if self._open is not None:
            raise ExperimentDeclarationError(f"run {label!r} was opened inside another run; runs do not nest")
        current = self._open = _OpenRun()
        started_at, start = self.clock.now(), self.clock.monotonic()
        error = ""
        try:
            yield
        except Exception as crash:  # noqa: BLE001 - whatever a run raises is its result
            error = traceback.format_exc()
            current.failure = f"crashed: {type(crash).__name__}: {crash}"
        except BaseException:
            current.failure = "interrupted"
            raise
        finally:
            self._open = None
            self.runs.append(
                RunLog(
                    number=len(self.runs) + 1,
                    label=label,
                    started_at=started_at,
                    duration_s=self.clock.monotonic() - start,
                    lines=tuple(current.lines),
                    failure=current.failure,
                    error=error,
                )
            )
        self._mind_the_trigger(failed=bool(current.failure))

    def _mind_the_trigger(self, *, failed: bool) -> None:
        self._failures_in_a_row = self._failures_in_a_row + 1 if failed else 0
        trigger = self.experiment.failure_plan.critical_trigger
        if self._failures_in_a_row >= trigger.consecutive_failures:
            raise StoppedByTrigger(f"critical trigger: {trigger.statement}")

    def fail(self, reason: str) -> None:
        """Say that the current run failed. It goes on; the critical trigger counts it when it ends."""
        self._current("fail").failure = reason
        self.log(f"FAILED: {reason}")

    def log(self, line: str) -> None:
        """Write a line into the current run's log."""
        self._current("log").lines.append(line)

    def row(self, **cells: Cell) -> None:
        """Add a row to the data table, under the current run's number."""
        self._current("row")
        self.rows.append(DataRow(len(self.runs) + 1, cells))

    def measure(self, criterion_id: str, value: float, evidence: str) -> None:
        """Give a criterion its value. Measuring again replaces it; an undeclared criterion raises."""
        if criterion_id not in {criterion.id for criterion in self.experiment.criteria}:
            raise ExperimentDeclarationError(
                f"{self.experiment.id} measures {criterion_id!r}, which is none of its criteria"
            )
        self.measurements[criterion_id] = Measurement(criterion_id, float(value), evidence)

    def observe(self, kind: Finding, text: str) -> None:
        """Note a positive finding, an issue or an anomaly."""
        self.observations.append(Observation(kind, text))

    def caveat(self, text: str) -> None:
        """Note something that makes a GO conditional."""
        self.caveats.append(text)

    def progress(self, label: str, done: int, total: int | None = None) -> None:
        """Tell whoever watches how far the experiment is."""
        if self._listener is not None:
            self._listener(Progress(self.experiment.id, label, done, total))

    @property
    def crashed_runs(self) -> int:
        """Runs that an exception ended."""
        return sum(run.crashed for run in self.runs)

    def _current(self, verb: str) -> _OpenRun:
        if self._open is None:
            raise ExperimentDeclarationError(f"lab.{verb}() outside of a run; open one with lab.run(label)")
        return self._open
