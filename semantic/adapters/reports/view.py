"""What a report shows beyond declaration and results as they are: the same for every format."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from attrs import frozen

from semantic.adapters.reports.formats import assignments
from semantic.adapters.reports.links import Link, Links
from semantic.adapters.reports.tables import DataTable, tables_of
from semantic.application.ports.experiments import RunnableExperiment
from semantic.domain.experiments import (
    CriterionResult,
    Decision,
    Execution,
    Experiment,
    Finding,
    Level,
    Need,
    NeedStatus,
    Observation,
    ResultsDocument,
    RootCause,
)

Fact: TypeAlias = tuple[str, str]

TO_BE_WRITTEN = "to be written by the owner: `root_cause` in the declaration, or in a review beside the results"
_NOT_INSTALLED = "not installed"
_FINDINGS = (
    (Finding.POSITIVE, "Positive Findings", "Finding"),
    (Finding.ISSUE, "Issues Encountered", "Issue"),
    (Finding.ANOMALY, "Anomalies", "Anomaly"),
)


@frozen
class Check:
    """A prerequisite, and whether it was met."""

    met: bool
    text: str
    is_code: bool = False


@frozen
class Findings:
    """The observations of one kind, with the template's heading and word for them."""

    heading: str
    word: str
    observations: tuple[Observation, ...]


@frozen(kw_only=True)
class ReportView:
    """Everything a template needs. ``suffix`` is that of the format, for links from report to report."""

    experiment: Experiment
    execution: Execution
    document: ResultsDocument
    setting: str
    parameters: str
    models: tuple[Check, ...]
    dependencies: tuple[Check, ...]
    components: tuple[Check, ...]
    musts: tuple[CriterionResult, ...]
    nices: tuple[CriterionResult, ...]
    tables: tuple[DataTable, ...]
    findings: tuple[Findings, ...]
    root_cause: RootCause
    sprint: str
    environment: tuple[Fact, ...]
    code: tuple[tuple[str, tuple[Link, ...]], ...]
    documentation: tuple[tuple[str, tuple[Link, ...]], ...]

    @property
    def is_partial(self) -> bool:
        """Whether the experiment ended, or was, before its last step."""
        return not self.execution.is_complete

    @property
    def reviewer(self) -> str:
        """Who signed; an approval of an earlier execution says so."""
        return self._of_sign_off(self.experiment.sign_off.reviewer)

    @property
    def approval_date(self) -> str:
        """When; as :attr:`reviewer`."""
        return self._of_sign_off(self.experiment.sign_off.approval_date)

    def _of_sign_off(self, text: str) -> str:
        sign_off = self.experiment.sign_off
        outdated = sign_off.is_given and not sign_off.covers(self.execution.started_at)
        return (text or "none yet") + (" (of an earlier execution; this one is not approved)" if outdated else "")


def view_of(runnable: RunnableExperiment, document: ResultsDocument, links: Links, suffix: str) -> ReportView:
    """Derive what is shown."""
    experiment, execution = runnable.declaration, document.latest
    observations = (*execution.observations, *experiment.observations)
    return ReportView(
        experiment=experiment,
        execution=execution,
        document=document,
        setting=_setting(experiment, execution),
        parameters=assignments(execution.parameters),
        models=tuple(_models(experiment, execution)),
        dependencies=tuple(_dependencies(experiment, execution)),
        components=tuple(_components(experiment, execution)),
        musts=tuple(result for result in execution.criteria if result.level is Level.MUST),
        nices=tuple(result for result in execution.criteria if result.level is Level.NICE),
        tables=tables_of(execution.rows),
        findings=tuple(
            Findings(heading, word, tuple(seen for seen in observations if seen.kind is kind))
            for kind, heading, word in _FINDINGS
        ),
        root_cause=_root_cause(experiment, execution),
        sprint=_sprint(experiment.sprint),
        environment=tuple(_environment(execution)),
        code=(
            ("Experiment script", (links.file(runnable.source),)),
            ("Test fixtures", tuple(links.file(path) for path in runnable.fixtures)),
            ("Data files", (links.beside(f"{experiment.file_stem}_results.json"),)),
            ("Report", (links.beside(f"{experiment.file_stem}_report.md"),)),
            ("Report with plots", (links.beside(f"{experiment.file_stem}_report.html"),)),
        ),
        documentation=(
            ("Related ADRs", tuple(links.adr(name) for name in experiment.related.adrs)),
            ("Related experiments", tuple(links.report(id, suffix) for id in experiment.related.experiments)),
            ("External references", tuple(_reference(text) for text in experiment.related.references)),
        ),
    )


def _setting(experiment: Experiment, execution: Execution) -> str:
    """The profile, which may have been renamed since, and what the caller set."""
    notes = [each.note for each in experiment.profiles if each.name == execution.profile] or ["no longer declared"]
    note = f", {notes[0]}" if notes[0] else ""
    set_here = f"; set for this run: {', '.join(execution.overrides)}" if execution.overrides else ""
    return f"{execution.profile} profile{note}{set_here}"


def _sprint(sprint: str) -> str:
    """``Sprint 2`` of ``2 - Block-Pool Batch Engine``."""
    number = sprint.partition(" ")[0]
    return f"Sprint {number}" if number.isdecimal() else "Sprint"


def _models(experiment: Experiment, execution: Execution) -> Iterable[Check]:
    checks = [check for check in execution.prerequisites if check.kind is Need.MODEL]
    ran = any(check.status is NeedStatus.MET for check in checks)
    for check in checks:
        met = check.status is NeedStatus.MET
        yield Check(met, f"{check.name} ({check.purpose})" + ("" if met else f": {check.found}"))
    if not checks:  # results of schema 1, which kept what differed only
        ran = not any(deviation.subject == "model" for deviation in execution.deviations)
        for model in experiment.prerequisites.models:
            why_not = model.not_run_because or ("" if ran else f"{execution.model} was run instead")
            yield Check(not why_not, f"{model.name} ({model.purpose})" + (f": not run: {why_not}" if why_not else ""))
    yield Check(not ran, f"Other: {'none' if ran else execution.model}")


def _dependencies(experiment: Experiment, execution: Execution) -> Iterable[Check]:
    versions = execution.environment.versions
    declared = experiment.prerequisites.dependencies
    for dependency in declared:
        installed = versions.get(dependency.name, "")
        stated = f"v{dependency.version} stated, " if dependency.version else ""
        found = f"v{installed} installed" if installed else _NOT_INSTALLED
        yield Check(bool(installed), f"{dependency.name}: {stated}{found}")
    names = {_normal(dependency.name) for dependency in declared}
    others = [f"{name} v{version}" for key, (name, version) in _once(versions).items() if key not in names]
    yield Check(bool(others), f"Other: {', '.join(others) or 'none'}")


def _components(experiment: Experiment, execution: Execution) -> Iterable[Check]:
    absent = {check.name for check in execution.prerequisites if check.status is NeedStatus.MISSING}
    for component in experiment.prerequisites.components:
        yield Check(component not in absent, component, is_code=True)
    yield Check(False, "Other: none")


def _environment(execution: Execution) -> Iterable[Fact]:
    """As the template orders it."""
    facts = execution.environment
    versions = _once(facts.versions)
    yield "Python", facts.python
    for name in ("mlx", "mlx_lm"):
        yield name, versions.pop(name, ("", _NOT_INSTALLED))[1]
    yield "Platform", facts.platform
    yield "CPU", facts.cpu
    yield "Device and dtype", f"{facts.device}, {facts.dtype}"
    yield "Model", execution.model
    yield from versions.values()


def _once(versions: Mapping[str, str]) -> dict[str, Fact]:
    """By their normal names: one where two spellings of a name were asked for."""
    return {_normal(name): (name, version) for name, version in versions.items()}


def _normal(distribution: str) -> str:
    return distribution.lower().replace("-", "_")


def _root_cause(experiment: Experiment, execution: Execution) -> RootCause:
    """The author's; else what is known without one."""
    if experiment.root_cause is not None:
        return experiment.root_cause
    if execution.decision is Decision.NO_GO:
        return RootCause(
            problem=execution.rationale, investigation=(TO_BE_WRITTEN,), root_cause=TO_BE_WRITTEN, fix=TO_BE_WRITTEN
        )
    return RootCause(
        problem="none: no must-pass criterion failed",
        investigation=("not needed",),
        root_cause="not applicable",
        fix="none needed",
    )


def _reference(text: str) -> Link:
    return Link(text, text if text.startswith(("https://", "http://")) else "")
