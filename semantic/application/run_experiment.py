"""Use case: run experiments, decide, and leave a result and a report behind."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import define, field, frozen

from semantic.application.concluding import Setting, conclude
from semantic.application.lab import Lab, StoppedByTrigger
from semantic.application.ports.clock import Clock
from semantic.application.ports.engine import EngineFactory
from semantic.application.ports.engine_process import EngineProcesses
from semantic.application.ports.experiments import (
    EnvironmentProbe,
    ExperimentCatalogue,
    ProgressListener,
    ReportWriter,
    ResultsStore,
    Reviews,
    RunnableExperiment,
)
from semantic.application.ports.memory_probe import MemoryProbe
from semantic.application.ports.quality import QualityProbes
from semantic.application.ports.reference import ReferenceFactory
from semantic.application.ports.stores import Stores
from semantic.application.ports.telemetry import Telemetry
from semantic.application.prerequisites import met_prerequisites
from semantic.application.reference_session import ReferenceSession
from semantic.application.report_experiments import ReportExperiments
from semantic.application.resuming import check_resumable
from semantic.application.sweep import Order, orders_of
from semantic.domain.errors import (
    ExperimentNotFoundError,
    ResultsTooNewError,
    ResultsUnreadableError,
    SemanticError,
)
from semantic.domain.experiments import (
    Execution,
    Parameter,
    ResultsDocument,
)

HISTORY_KEPT = 20
"""Earlier executions that a results document remembers in brief."""

CHECKPOINT_S = 5.0
"""What was noted is saved after a run if that was not done for so long; a kill loses no more than this and a run."""


@frozen
class Outcome:
    """What became of one experiment: an execution, or the error that kept it from being run or saved."""

    experiment_id: str
    execution: Execution | None = None
    error: SemanticError | None = None
    variant: str = ""


@define(kw_only=True)
class RunExperiment:
    """Runs experiments one after the other. A context manager: the reference they share ends with it.

    ``model`` names what ``engine_factory``, ``engine_processes``, ``reference_factory`` and
    ``quality_probes`` run.
    """

    model: str
    catalogue: ExperimentCatalogue
    engine_factory: EngineFactory
    engine_processes: EngineProcesses
    stores: Stores
    reference_factory: ReferenceFactory
    quality_probes: QualityProbes
    clock: Clock
    memory_probe: MemoryProbe
    results_store: ResultsStore
    report_writer: ReportWriter
    environment_probe: EnvironmentProbe
    telemetry: Telemetry
    reviews: Reviews | None = None
    listener: ProgressListener | None = None
    checkpoint_s: float = CHECKPOINT_S
    reports: ReportExperiments = field(init=False)
    _reference: ReferenceSession = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reports = ReportExperiments(self.catalogue, self.results_store, self.report_writer, self.reviews)
        self._reference = ReferenceSession(self.reference_factory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reference.close()

    def run_all(
        self,
        experiment_ids: Sequence[str],
        profile: str = "quick",
        settings: Mapping[str, str] | None = None,
        sweep: Mapping[str, str] | None = None,
        *,
        resume: bool = False,
    ) -> Iterator[Outcome]:
        """Run them in order, each saved before the next; one that can't be read or begun does not keep the others.

        ``settings`` and ``sweep`` are parameters as written on a command line. Ids, profile and parameters are looked
        at before the first runs: what is not there raises.
        """
        orders: list[Order | Outcome] = []
        for experiment_id in experiment_ids:
            orders += self._orders(experiment_id, profile, settings, sweep)
        for order in orders:
            yield self._carried_out(order, profile, resume=resume) if isinstance(order, Order) else order

    def _orders(
        self, experiment_id: str, profile: str, settings: Mapping[str, str] | None, sweep: Mapping[str, str] | None
    ) -> Sequence[Order | Outcome]:
        try:
            declaration = self.catalogue.find(experiment_id).declaration
        except ExperimentNotFoundError:
            raise
        except SemanticError as error:
            return [Outcome(experiment_id, error=error)]
        orders = orders_of(declaration, settings, sweep)
        for order in orders:
            declaration.parameters(profile, order.overrides)
        return orders

    def _carried_out(self, order: Order, profile: str, *, resume: bool) -> Outcome:
        try:
            execution = self.run(order.experiment_id, profile, order.overrides, variant=order.variant, resume=resume)
        except SemanticError as error:
            return Outcome(order.experiment_id, error=error, variant=order.variant)
        return Outcome(order.experiment_id, execution, variant=order.variant)

    def run(
        self,
        experiment_id: str,
        profile: str = "quick",
        overrides: Mapping[str, Parameter] | None = None,
        *,
        variant: str = "",
        resume: bool = False,
    ) -> Execution:
        """Run one. A crash inside is part of the result; it raises only if it can't begin or be saved.

        An interrupt (Ctrl-C) saves what there is, marked as such, and goes on upwards. ``resume`` goes on from there:
        steps that had ended are not repeated; an execution that had come to its end is given back as it is.
        ``variant`` names a combination of a sweep, whose results are kept apart.
        """
        experiment = self.catalogue.find(experiment_id)
        declaration, overrides = experiment.declaration, dict(overrides or {})
        parameters = declaration.parameters(profile, overrides)
        self.results_store.prepare()
        if self.reviews is not None:
            self.reviews.load(declaration.id)  # one that can't be read is told now, not after the last run
        earlier = self._earlier(declaration.id, variant)
        environment = self.environment_probe.facts([each.name for each in declaration.prerequisites.dependencies])
        unfinished = earlier.latest if earlier is not None and resume else None
        if unfinished is not None:
            check_resumable(unfinished, experiment, profile, parameters, self.model, environment)
            if unfinished.is_complete:
                return unfinished
        checks = met_prerequisites(experiment, self.model, environment, self.environment_probe)
        now = self.clock.now()
        setting = Setting(
            experiment=experiment,
            model=self.model,
            overrides=overrides,
            declared=declaration.parameters(profile),
            variant=variant,
            environment=environment,
            checks=checks,
            started_at=unfinished.started_at if unfinished is not None else now,
            resumed_at=(*unfinished.resumed_at, now) if unfinished is not None else (),
            results=self.results_store.location(declaration.id, variant),
        )
        return self._carry_out(setting, profile, parameters, earlier, unfinished)

    def _carry_out(
        self,
        setting: Setting,
        profile: str,
        parameters: Mapping[str, Parameter],
        earlier: ResultsDocument | None,
        unfinished: Execution | None,
    ) -> Execution:
        declaration = setting.experiment.declaration
        saved_at = self.clock.monotonic()

        def checkpoint() -> None:
            nonlocal saved_at
            if self.clock.monotonic() - saved_at >= self.checkpoint_s:
                self.results_store.save(_document(earlier, conclude(lab, setting, is_running=True), unfinished))
                saved_at = self.clock.monotonic()

        lab = Lab(
            experiment=declaration,
            profile=profile,
            parameters=parameters,
            engines=self.engine_factory,
            processes=self.engine_processes,
            stores=self.stores,
            reference=self._reference,
            quality=self.quality_probes,
            clock=self.clock,
            memory=self.memory_probe,
            listener=self.listener,
            unfinished=unfinished,
            on_run_end=checkpoint,
        )
        self.telemetry.event("experiment.started", experiment=declaration.id, profile=profile, model=self.model)
        ending = _end_of(setting.experiment, lab)
        execution = conclude(lab, setting, ending.stopped_early)
        self._publish(setting.experiment, _document(earlier, execution, unfinished))
        if ending.interrupt is not None:
            raise ending.interrupt
        return execution

    def _earlier(self, experiment_id: str, variant: str) -> ResultsDocument | None:
        """What is there already, looked at before hours of work rather than after."""
        try:
            return self.results_store.load(experiment_id, variant)
        except ResultsTooNewError:
            raise
        except ResultsUnreadableError as error:
            aside = self.results_store.set_aside(experiment_id, variant)
            self.telemetry.warning(
                "experiment.results_unreadable", experiment=experiment_id, error=str(error), kept_as=aside
            )
            return None

    def _publish(self, experiment: RunnableExperiment, document: ResultsDocument) -> None:
        results, reports = self.results_store.save(document), []
        if not document.latest.variant:
            reports = [*self.reports.write_one(experiment, document), *self.reports.write_index()]
        self.telemetry.event(
            "experiment.finished",
            experiment=document.latest.experiment_id,
            decision=str(document.latest.decision),
            results=results,
            reports=reports,
        )


def _document(earlier: ResultsDocument | None, execution: Execution, unfinished: Execution | None) -> ResultsDocument:
    if earlier is None:
        return ResultsDocument(latest=execution)
    return earlier.continued_by(execution) if unfinished is not None else earlier.followed_by(execution, HISTORY_KEPT)


@frozen
class _Ending:
    """How the experiment's function ended; both empty when it simply returned."""

    stopped_early: str = ""
    interrupt: KeyboardInterrupt | None = None


def _end_of(experiment: RunnableExperiment, lab: Lab) -> _Ending:
    try:
        experiment.run(lab)
    except StoppedByTrigger as trigger:
        return _Ending(str(trigger))
    except KeyboardInterrupt as interrupt:
        return _Ending("interrupted", interrupt)
    except (Exception, SystemExit) as crash:  # noqa: BLE001 - a crash is the experiment's result
        where = _place_in(experiment.source, crash)
        return _Ending(f"crashed outside of a run, {where}:\n{traceback.format_exc()}")
    return _Ending()


def _place_in(source: str, crash: BaseException) -> str:
    """``path:line`` of the last call in the script, the script alone where it never came so far."""
    name = str(Path(source).absolute())
    lines = [frame.lineno for frame in traceback.extract_tb(crash.__traceback__) if frame.filename == name]
    return f"{source}:{lines[-1]}" if lines else source
