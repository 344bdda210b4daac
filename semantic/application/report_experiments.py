"""Use case: write reports and the index from what is stored. Nothing is run."""

from collections.abc import Sequence

from attrs import evolve, frozen

from semantic.application.ports.experiments import (
    CatalogueEntry,
    ExperimentCatalogue,
    ListedExperiment,
    ReportWriter,
    ResultsStore,
    Reviews,
    RunnableExperiment,
)
from semantic.domain.errors import NoResultsError, ResultsNotWritableError, ReviewUnreadableError, SemanticError
from semantic.domain.experiments import ResultsDocument


@frozen
class Written:
    """``paths`` lead to what was written, ``errors`` say what was not."""

    paths: Sequence[str]
    errors: Sequence[SemanticError] = ()


@frozen
class ReportExperiments:
    """Prose comes from declarations and reviews, everything measured from the results: writing changes no result."""

    catalogue: ExperimentCatalogue
    results_store: ResultsStore
    writer: ReportWriter
    reviews: Reviews | None = None

    def write(self, experiment_id: str) -> Sequence[str]:
        """The reports of one experiment; returns where they lie. The index is left as it is.

        Raises :class:`NoResultsError` for one that never ran, and what catalogue and store raise.
        """
        experiment = self.catalogue.find(experiment_id)
        document = self.results_store.load(experiment.declaration.id)
        if document is None:
            raise NoResultsError(
                f"{experiment.declaration.id} has no results here; "
                f"run it first: semantic experiment run {experiment.declaration.id}"
            )
        return self.write_one(experiment, document)

    def write_one(self, experiment: RunnableExperiment, document: ResultsDocument) -> Sequence[str]:
        """The reports of this document, with the review that lies beside it.

        Raises ``ReviewUnreadableError``, and ``ResultsNotWritableError`` where the system refuses to write.
        """
        if self.reviews is not None:
            review = self.reviews.load(experiment.declaration.id)
            experiment = evolve(experiment, declaration=review.of(experiment.declaration))
        try:
            return self.writer.write(experiment, document)
        except OSError as error:
            id = experiment.declaration.id
            raise ResultsNotWritableError(f"{id}: results are kept, reports cannot be written: {error}") from error

    def write_all(self) -> Written:
        """The reports of every experiment that has readable results, then the index, which names the others."""
        paths: list[str] = []
        listed = []
        for each in self.listed():
            try:
                if each.entry.experiment is not None and each.document is not None:
                    paths.extend(self.write_one(each.entry.experiment, each.document))
            except ReviewUnreadableError as error:
                each = ListedExperiment(each.entry, error=error)
            listed.append(each)
        paths.extend(self.writer.write_index(listed))
        return Written(paths, [each.error for each in listed if each.error is not None])

    def write_index(self) -> Sequence[str]:
        """The pages over all experiments; returns where they lie."""
        return self.writer.write_index(self.listed())

    def listed(self) -> Sequence[ListedExperiment]:
        """Every experiment there is with what was recorded last. One that can't be read hides no other."""
        return [self._listed(entry) for entry in self.catalogue.entries()]

    def _listed(self, entry: CatalogueEntry) -> ListedExperiment:
        if entry.experiment is None:
            return ListedExperiment(entry, error=entry.error)
        try:
            return ListedExperiment(entry, self.results_store.load(entry.id))
        except SemanticError as error:
            return ListedExperiment(entry, error=error)
