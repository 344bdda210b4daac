"""Use case: run experiments, decide, and leave a result and a report behind."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from attrs import define, field, frozen

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
    RunnableExperiment,
)
from semantic.application.ports.memory_probe import MemoryProbe
from semantic.application.ports.quality import QualityProbes
from semantic.application.ports.reference import ReferenceFactory
from semantic.application.ports.stores import Stores
from semantic.application.ports.telemetry import Telemetry
from semantic.application.reference_session import ReferenceSession
from semantic.application.report_experiments import ReportExperiments
from semantic.domain.errors import MissingPrerequisiteError, ResultsTooNewError, ResultsUnreadableError
from semantic.domain.experiments import (
    Execution,
    Parameter,
    ResultsDocument,
    decide,
    find_deviations,
    judge,
    validate_hypothesis,
)

HISTORY_KEPT = 20
"""Earlier executions that a results document remembers in brief."""


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
    listener: ProgressListener | None = None
    reports: ReportExperiments = field(init=False)
    _reference: ReferenceSession = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reports = ReportExperiments(self.catalogue, self.results_store, self.report_writer)
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
        overrides: Mapping[str, Parameter] | None = None,
    ) -> Iterator[Execution]:
        """Run them in order, each saved before the next. All ids are looked up before the first runs."""
        for experiment in [self.catalogue.find(experiment_id) for experiment_id in experiment_ids]:
            yield self._run(experiment, profile, overrides)

    def run(
        self, experiment_id: str, profile: str = "quick", overrides: Mapping[str, Parameter] | None = None
    ) -> Execution:
        """Run one. A crash inside is part of the result; it raises only if it can't begin or be saved.

        An interrupt (Ctrl-C) saves what there is, marked as such, and goes on upwards.
        """
        return self._run(self.catalogue.find(experiment_id), profile, overrides)

    def _run(
        self, experiment: RunnableExperiment, profile: str, overrides: Mapping[str, Parameter] | None
    ) -> Execution:
        declaration = experiment.declaration
        parameters = declaration.parameters(profile, overrides)
        earlier = self._earlier(declaration.id)
        missing = self.environment_probe.missing(declaration.prerequisites.components)
        if missing:
            raise MissingPrerequisiteError(
                f"{declaration.id} ({experiment.source}) needs code that is not there: {', '.join(missing)}"
            )
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
        )
        self.telemetry.event("experiment.started", experiment=declaration.id, profile=profile, model=self.model)
        started_at, start = self.clock.now(), self.clock.monotonic()
        ending = _carry_out(experiment, lab)
        total_s = self.clock.monotonic() - start
        execution = self._conclude(lab, ending.stopped_early, started_at, total_s)
        self._publish(experiment, execution, earlier)
        if ending.interrupt is not None:
            raise ending.interrupt
        return execution

    def _conclude(self, lab: Lab, stopped_early: str, started_at: datetime, total_s: float) -> Execution:
        """Judge what the lab wrote down."""
        declaration = lab.experiment
        environment = self.environment_probe.facts(
            [dependency.name for dependency in declaration.prerequisites.dependencies]
        )
        criteria = tuple(judge(criterion, lab.measurements.get(criterion.id)) for criterion in declaration.criteria)
        by_id = {result.criterion_id: result for result in criteria}
        ruling = decide(criteria, lab.caveats, lab.crashed_runs, _in_one_line(stopped_early))
        return Execution(
            experiment_id=declaration.id,
            title=declaration.title,
            status=ruling.status,
            profile=lab.profile,
            model=self.model,
            parameters=lab.parameters,
            started_at=started_at,
            total_s=total_s,
            environment=environment,
            deviations=find_deviations(declaration, environment, self.model),
            runs=tuple(lab.runs),
            rows=tuple(lab.rows),
            observations=tuple(lab.observations),
            caveats=tuple(lab.caveats),
            criteria=criteria,
            hypotheses=tuple(validate_hypothesis(hypothesis, by_id) for hypothesis in declaration.hypotheses),
            decision=ruling.decision,
            rationale=ruling.rationale,
            stopped_early=stopped_early,
        )

    def _earlier(self, experiment_id: str) -> ResultsDocument | None:
        """What is there already, looked at before hours of work rather than after."""
        try:
            return self.results_store.load(experiment_id)
        except ResultsTooNewError:
            raise
        except ResultsUnreadableError as error:
            self.telemetry.warning("experiment.results_unreadable", experiment=experiment_id, error=str(error))
            return None

    def _publish(self, experiment: RunnableExperiment, execution: Execution, earlier: ResultsDocument | None) -> None:
        document = earlier.followed_by(execution, HISTORY_KEPT) if earlier else ResultsDocument(latest=execution)
        results = self.results_store.save(document)
        reports = self.report_writer.write(experiment, document)
        self.reports.write_index()
        self.telemetry.event(
            "experiment.finished",
            experiment=execution.experiment_id,
            decision=str(execution.decision),
            results=results,
            reports=reports,
        )


@frozen
class _Ending:
    """How the experiment's function ended; both empty when it simply returned."""

    stopped_early: str = ""
    interrupt: KeyboardInterrupt | None = None


def _carry_out(experiment: RunnableExperiment, lab: Lab) -> _Ending:
    try:
        experiment.run(lab)
    except StoppedByTrigger as trigger:
        return _Ending(str(trigger))
    except KeyboardInterrupt as interrupt:
        return _Ending("interrupted", interrupt)
    except Exception:  # noqa: BLE001 - a crash is the experiment's result
        return _Ending("crashed outside of a run:\n" + traceback.format_exc())
    return _Ending()


def _in_one_line(text: str) -> str:
    """Of a traceback, the last line says what happened; of anything else, the first is the whole."""
    lines = text.strip().splitlines()
    return "" if not lines else lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"
