"""The lab: what an experiment works with, and where it writes down what it saw."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from attrs import define, field

from semantic.application.kept import as_cell, as_kept
from semantic.application.notebook import Line, Notebook
from semantic.application.pairing import PairedTimes, Timed, take_pairs
from semantic.application.ports.clock import Clock
from semantic.application.ports.engine import EngineFactory
from semantic.application.ports.engine_process import EngineProcesses
from semantic.application.ports.experiments import Progress, ProgressListener
from semantic.application.ports.memory_probe import MemoryProbe
from semantic.application.ports.quality import QualityProbes
from semantic.application.ports.stores import Stores
from semantic.application.reference_session import ReferenceSession
from semantic.application.time_left import TimeLeft
from semantic.domain.errors import ExperimentDeclarationError
from semantic.domain.experiments import (
    Cell,
    ComparedSequence,
    Criterion,
    DataRow,
    Estimate,
    Execution,
    Experiment,
    Finding,
    Kept,
    LaneTally,
    Measurement,
    Observation,
    RunLog,
    Samples,
    Series,
    TokenComparison,
    confidence_of,
    estimate_median,
)

MEMORY_FIGURE = "Memory over time"


class StoppedByTrigger(Exception):
    """The experiment's critical trigger fired. The runner ends the experiment; nobody else catches this."""


@define
class _OpenRun:
    lines: list[str] = field(factory=list)
    caveats: list[str] = field(factory=list)
    failure: str = ""
    kept: Kept = None


class Lab:
    """Injected tools and a notebook.

    ``parameters`` are the experiment's, overlaid with the profile's and the caller's. ``random`` is seeded with
    the parameter ``seed`` (0 where there is none), inside a step with the step's label too, so that a step draws the
    same whether or not the ones before it were repeated. Nothing done with the lab touches files or global state.

    ``unfinished`` is the execution to resume; ``on_run_end`` is called after each run that was not interrupted.
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
        unfinished: Execution | None = None,
        on_run_end: Callable[[], None] = lambda: None,
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
        self.random = Random(self._seed)
        self.notebook = Notebook()
        self._listener = listener
        self._unfinished = unfinished
        self._steps_before = {run.label: run for run in unfinished.runs if run.is_step} if unfinished else {}
        self._step_labels: set[str] = set()
        self._on_run_end = on_run_end
        self._open: _OpenRun | None = None
        self._failures_in_a_row = 0
        self._start = clock.monotonic()
        self._time_left = TimeLeft(clock)

    # -- runs ----------------------------------------------------------------------------------------

    @contextmanager
    def run(self, label: str) -> Iterator[None]:
        """One run of the experiment: the unit of the execution log, and of the critical trigger.

        An exception inside ends this run, not the experiment: its traceback is kept. Runs do not nest. A resumed
        execution does it again; see :meth:`step` for work that it need not repeat.
        """
        with self._opened(label, is_step=False):
            yield

    def step(self, label: str, work: Callable[[], Any]) -> Kept:
        """A run whose result is kept: do ``work`` and give back what it gives, None if it crashed.

        Where this execution goes on after an interrupt, a step that had ended is not done again: its log, rows,
        comparisons and series come from the stored results, and so does what it gave. So let what comes after depend
        on that alone. It is None, a number, text or boolean, or a list or mapping of these; tuples become lists.
        Labels of steps are unique.
        """
        if label in self._step_labels:
            raise ExperimentDeclarationError(
                f"{self.experiment.id} has two steps {label!r}; labels of steps are unique"
            )
        self._step_labels.add(label)
        before = self._steps_before.get(label)
        if before is not None and self._unfinished is not None:
            self._refuse_nesting(label)
            self.notebook.take_over(self._unfinished, before)
            self._time_left.restart()
            self._mind_the_trigger(failed=bool(before.failure))
            return before.kept
        outside, self.random = self.random, Random(f"{self._seed}/{label}")
        kept: Kept = None
        try:
            with self._opened(label, is_step=True) as current:
                kept = current.kept = as_kept(work(), label)
        finally:
            self.random = outside
        return kept

    def is_done(self, label: str) -> bool:
        """Whether a step of this label had ended before an interrupt, so that what prepares it may be left out."""
        return label in self._steps_before

    @contextmanager
    def _opened(self, label: str, *, is_step: bool) -> Iterator[_OpenRun]:
        self._refuse_nesting(label)
        current = self._open = _OpenRun()
        self.notebook.is_run_open = True
        started_at, start = self.clock.now(), self.clock.monotonic()
        error, ended = "", True
        try:
            yield current
        except (Exception, SystemExit) as crash:  # noqa: BLE001 - whatever a run raises is its result
            error = traceback.format_exc()
            current.failure = f"crashed: {type(crash).__name__}: {crash}"
        except BaseException:
            current.failure = "interrupted"
            ended = False
            raise
        finally:
            self._note_memory()
            self._open = None
            self.notebook.runs.append(
                RunLog(
                    number=len(self.notebook.runs) + 1,
                    label=label,
                    started_at=started_at,
                    duration_s=self.clock.monotonic() - start,
                    lines=tuple(current.lines),
                    failure=current.failure,
                    error=error,
                    is_step=is_step and ended and not error,
                    kept=current.kept,
                    caveats=tuple(current.caveats),
                )
            )
            self.notebook.is_run_open = False
        self._on_run_end()
        self._mind_the_trigger(failed=bool(current.failure))

    def _refuse_nesting(self, label: str) -> None:
        if self._open is not None:
            raise ExperimentDeclarationError(f"run {label!r} was opened inside another run; runs do not nest")

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
        self._current("log").lines.append(str(line))

    # -- what was seen -------------------------------------------------------------------------------

    def row(self, **cells: Cell) -> None:
        """Add a row to the data table, under the current run's number: numbers, texts, booleans or None."""
        self._current("row")
        held = {column: as_cell(value, column) for column, value in cells.items()}
        self.notebook.rows.append(DataRow(self.notebook.current_run, held))

    def series(self, figure: str, name: str, *, x_label: str, y_label: str, x_unit: str = "", y_unit: str = "") -> Line:
        """The line ``name`` of a figure, to add points to: ``lab.series(...).add(x, y)``.

        All lines of one figure have its axes and units.
        """
        return self.notebook.line(
            Series(figure=figure, name=name, x_label=x_label, y_label=y_label, x_unit=x_unit, y_unit=y_unit)
        )

    def compare(self, label: str, comparison: TokenComparison, *, lane: str = "", texts_agree: bool = True) -> bool:
        """Note a compared sequence; return whether it passes: equal, or a tie. :meth:`tally` counts them."""
        self.notebook.comparisons.append(
            ComparedSequence(
                lane=lane,
                label=label,
                comparison=comparison,
                texts_agree=texts_agree,
                run=self.notebook.current_run,
            )
        )
        return (comparison.agrees and texts_agree) or comparison.is_tie

    def tally(self, lane: str = "") -> LaneTally:
        """All sequences compared so far in this lane, counted."""
        return self.notebook.tally(lane)

    def estimate(
        self,
        name: str,
        values: Sequence[float],
        *,
        figure: str = "Measurements",
        unit: str = "",
        limit: float | None = None,
        criterion: str = "",
        confidence: float = 0.95,
    ) -> Estimate:
        """Median and bootstrap interval of repeated measurements, kept with all of them.

        ``criterion`` is measured with it, and gives the unit and the limit. Few values can't support a high
        confidence: what they do support is stated (see :func:`confidence_of`). Raises ValueError when empty.
        """
        if criterion:
            threshold = self._criterion(criterion).threshold
            unit, limit = unit or threshold.unit, threshold.value if limit is None else limit
        values = [float(value) for value in values]
        seed = Random(f"{self._seed}/{figure}/{name}").getrandbits(32)
        supported = confidence_of(len(values), confidence)
        estimate = estimate_median(values, Random(seed), confidence=confidence)
        self.notebook.samples.append(
            Samples(
                figure=figure,
                name=name,
                unit=unit,
                values=tuple(values),
                estimate=estimate,
                confidence=supported,
                seed=seed,
                limit=limit,
                criterion_id=criterion,
                run=self.notebook.current_run,
            )
        )
        if criterion:
            evidence = f"median {estimate} ({supported:.0%} bootstrap) of {len(values)}"
            self.measure(criterion, estimate, evidence)
        return estimate

    def paired(
        self,
        name: str,
        first: tuple[str, Timed],
        second: tuple[str, Timed],
        *,
        pairs: int,
        warm_up: int = 1,
        begin_with_second: bool = False,
    ) -> PairedTimes:
        """Time two ways of doing the same, in neighbouring pairs whose order alternates (ADR 0018).

        Each of ``first`` and ``second`` is a name and a function; the function's time is taken on the lab's clock,
        unless it gives back seconds that it has measured itself. Each pair is a step, with a row; both are done
        ``warm_up`` times untimed before. The ratios are those of first over second.
        """
        return take_pairs(self, name, first, second, pairs, warm_up, begin_with_second)

    def measure(self, criterion_id: str, value: float | Estimate, evidence: str) -> None:
        """Give a criterion its value; an :class:`Estimate` brings its interval, which decides too (ADR 0016).

        Measuring again replaces it; an undeclared criterion raises.
        """
        self._criterion(criterion_id)
        low = high = None
        if isinstance(value, Estimate):
            low, high, value = value.low, value.high, value.median
        self.notebook.measurements[criterion_id] = Measurement(
            criterion_id, float(value), evidence, low, high, self.notebook.current_run
        )

    def observe(self, kind: Finding, text: str) -> None:
        """Note a positive finding, an issue or an anomaly."""
        self.notebook.observations.append(Observation(kind, text, self.notebook.current_run))

    def caveat(self, text: str) -> None:
        """Note something that makes a GO conditional."""
        self.notebook.caveats.append(text)
        if self._open is not None:
            self._open.caveats.append(text)

    def progress(self, label: str, done: int, total: int | None = None) -> None:
        """Tell whoever watches how far the experiment is."""
        if self._listener is not None:
            left_s = None if total is None else self._time_left.of(done, total)
            self._listener(Progress(self.experiment.id, label, done, total, left_s))

    # -- looking back --------------------------------------------------------------------------------

    @property
    def runs(self) -> Sequence[RunLog]:
        """Runs that have ended."""
        return self.notebook.runs

    @property
    def rows(self) -> Sequence[DataRow]:
        """Rows of the data table."""
        return self.notebook.rows

    @property
    def crashed_runs(self) -> int:
        """Runs that an exception ended."""
        return self.notebook.crashed_runs

    @property
    def elapsed_s(self) -> float:
        """Seconds of work so far, those before an interrupt included."""
        before = self._unfinished.total_s if self._unfinished is not None else 0.0
        return before + self.clock.monotonic() - self._start

    @property
    def _seed(self) -> int:
        return int(self.parameters.get("seed", 0))

    def _criterion(self, criterion_id: str) -> Criterion:
        for criterion in self.experiment.criteria:
            if criterion.id == criterion_id:
                return criterion
        raise ExperimentDeclarationError(
            f"{self.experiment.id} measures {criterion_id!r}, which is none of its criteria"
        )

    def _note_memory(self) -> None:
        reading, elapsed_s = self.memory.read(), self.elapsed_s
        for name, count in (("process", reading.resident), ("MLX, active", reading.device_active)):
            axes = {"x_label": "time", "x_unit": "s", "y_label": "memory", "y_unit": "MB"}
            self.series(MEMORY_FIGURE, name, **axes).add(elapsed_s, count / 1e6)

    def _current(self, verb: str) -> _OpenRun:
        if self._open is None:
            raise ExperimentDeclarationError(f"lab.{verb}() outside of a run; open one with lab.run(label)")
        return self._open
