"""Use case: look over all experiments, their results, reviews and the decisions that they name. Nothing is run."""

import re
from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from semantic.application.ports.experiments import (
    CatalogueEntry,
    ExperimentCatalogue,
    ResultsStore,
    Reviews,
    RunnableExperiment,
)
from semantic.domain.errors import SemanticError
from semantic.domain.experiments import NOT_STATED

_EXPERIMENT = re.compile(r"\bEXP-(\d{3})\b")
_LINE = re.compile(r"^Experiments: (?:.+\n?)+", re.MULTILINE)


@frozen
class Complaint:
    """``where`` is a file, with a line where one is known. A warning leaves the experiment valid."""

    experiment_id: str
    where: str
    text: str
    is_warning: bool = False


@frozen
class ValidateExperiments:
    """``decisions`` are the texts of the ADRs by name (``ADR-0004``); without any, links to them are not checked."""

    catalogue: ExperimentCatalogue
    results_store: ResultsStore
    reviews: Reviews | None = None
    decisions: Mapping[str, str] | None = None

    def complaints(self) -> Sequence[Complaint]:
        """Everything that is wrong, or worth a warning, in order of experiments; then links back from decisions."""
        entries = self.catalogue.entries()
        found = [complaint for entry in entries for complaint in self._of(entry)]
        known = {entry.id for entry in entries}
        return [*found, *self._links_back(entries), *self._links_to_nothing(known)]

    def _of(self, entry: CatalogueEntry) -> Iterator[Complaint]:
        if entry.experiment is None:
            yield Complaint(entry.id, entry.source, str(entry.error))
            return
        yield from _of_declaration(entry.experiment)
        yield from self._of_results(entry.experiment)
        yield from self._links(entry.experiment)

    def _of_results(self, experiment: RunnableExperiment) -> Iterator[Complaint]:
        id = experiment.declaration.id
        where = self.results_store.location(id)
        try:
            document = self.results_store.load(id)
            review = self.reviews.load(id) if self.reviews is not None else None
        except SemanticError as error:
            yield Complaint(id, where, str(error))
            return
        if document is None:
            yield Complaint(id, where, "has not run yet", is_warning=True)
            return
        latest = document.latest
        if not latest.is_complete:
            yield Complaint(id, where, f"is a partial result: {latest.stopped_early.splitlines()[0]}", is_warning=True)
        if latest.script_sha256 and latest.script_sha256 != experiment.sha256:
            yield Complaint(id, where, "was measured with another version of the script", is_warning=True)
        sign_off = review.of(experiment.declaration).sign_off if review else experiment.declaration.sign_off
        if sign_off.is_given and not sign_off.covers(latest.started_at):
            yield Complaint(id, where, "was measured after the approval, which does not cover it", is_warning=True)

    def _links(self, experiment: RunnableExperiment) -> Iterator[Complaint]:
        """Each decision that the experiment names is there, and names the experiment."""
        if self.decisions is None:
            return
        declaration = experiment.declaration
        for name in declaration.related.adrs:
            if name not in self.decisions:
                yield Complaint(declaration.id, experiment.source, f"names {name}, which is not there")
            elif declaration.id not in _named(self.decisions[name]):
                yield Complaint(
                    declaration.id, experiment.source, f"names {name}, whose `Experiments:` does not name it"
                )

    def _links_back(self, entries: Sequence[CatalogueEntry]) -> Iterator[Complaint]:
        """Each experiment that a decision names, names the decision."""
        for entry in entries:
            if entry.experiment is None:
                continue
            related = entry.experiment.declaration.related.adrs
            for name, text in (self.decisions or {}).items():
                if entry.id in _named(text) and name not in related:
                    yield Complaint(entry.id, entry.source, f"is named by {name}, which its related.adrs lacks")

    def _links_to_nothing(self, known: set[str]) -> Iterator[Complaint]:
        for name, text in (self.decisions or {}).items():
            for id in sorted(_named(text) - known):
                yield Complaint(id, name, "is named in its line `Experiments:` and does not exist", is_warning=True)


def _of_declaration(experiment: RunnableExperiment) -> Iterator[Complaint]:
    declaration = experiment.declaration
    for field in ("owner", "sprint"):
        if getattr(declaration, field) == NOT_STATED:
            yield Complaint(declaration.id, experiment.source, f"{field} is not stated", is_warning=True)
    for id in experiment.unmeasured:
        where = f"{experiment.source}:{experiment.lines.get(id, 1)}"
        yield Complaint(declaration.id, where, f"criterion {id} is declared, and nothing in the script measures it")


def _named(decision: str) -> set[str]:
    """Experiments in the line ``Experiments: EXP-001, ...`` under a decision's status, which may go over several lines.

    What its text mentions in passing is no link.
    """
    head = decision.partition("\n## ")[0]
    line = _LINE.search(head)
    return {f"EXP-{digits}" for digits in _EXPERIMENT.findall(line.group())} if line else set()
