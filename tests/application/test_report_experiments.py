"""The use case: reports and index from what is stored, without running anything."""

import pytest

from semantic.adapters.fakes.experiments import (
    MemoryReports,
    MemoryResultsStore,
    example_execution,
    example_experiment,
)
from semantic.application.ports.experiments import CatalogueEntry, RunnableExperiment
from semantic.application.report_experiments import ReportExperiments
from semantic.domain.errors import (
    ExperimentDeclarationError,
    NoResultsError,
    ResultsUnreadableError,
    ReviewUnreadableError,
    SemanticError,
)
from semantic.domain.experiments import ResultsDocument, Review


def runnable(id: str) -> RunnableExperiment:
    return RunnableExperiment(example_experiment(id=id), lambda lab: None, f"{id}.py")


class Listed:
    """EXP-900 has results, EXP-901 never ran, EXP-902 does not import, the results of EXP-903 are damaged."""

    def entries(self) -> list[CatalogueEntry]:
        broken = ExperimentDeclarationError("exp_902_x.py:3: no")
        return [
            CatalogueEntry("EXP-900", "exp_900_x.py", runnable("EXP-900")),
            CatalogueEntry("EXP-901", "exp_901_x.py", runnable("EXP-901")),
            CatalogueEntry("EXP-902", "exp_902_x.py", error=broken),
            CatalogueEntry("EXP-903", "exp_903_x.py", runnable("EXP-903")),
        ]

    def find(self, experiment_id: str) -> RunnableExperiment:
        return runnable(experiment_id)


class Damaged(MemoryResultsStore):
    def load(self, experiment_id: str) -> ResultsDocument | None:
        if experiment_id == "EXP-903":
            raise ResultsUnreadableError("exp_903_results.json cannot be read")
        return super().load(experiment_id)


@pytest.fixture
def reports() -> ReportExperiments:
    store = Damaged()
    store.save(ResultsDocument(latest=example_execution()))
    return ReportExperiments(Listed(), store, MemoryReports())


def test_every_experiment_with_results_is_written_and_all_are_listed(reports: ReportExperiments) -> None:
    written = reports.write_all()
    assert list(written.paths) == ["memory:EXP-900", "memory:index"]
    assert [type(error) for error in written.errors] == [ExperimentDeclarationError, ResultsUnreadableError]
    assert isinstance(reports.writer, MemoryReports)
    errors: list[SemanticError | None] = [each.error for each in reports.writer.listed]
    assert [each.entry.id for each in reports.writer.listed] == ["EXP-900", "EXP-901", "EXP-902", "EXP-903"]
    assert [type(error) for error in errors] == [
        type(None),
        type(None),
        ExperimentDeclarationError,
        ResultsUnreadableError,
    ]


def test_a_review_that_cannot_be_read_is_listed_and_hides_no_other() -> None:
    class Unreadable:
        def load(self, experiment_id: str) -> Review:
            raise ReviewUnreadableError("exp_900_review.toml:1: no")

    store, writer = MemoryResultsStore(), MemoryReports()
    store.save(ResultsDocument(latest=example_execution()))
    written = ReportExperiments(Listed(), store, writer, Unreadable()).write_all()
    assert list(written.paths) == ["memory:index"]
    assert "exp_900_review.toml:1: no" in [str(error) for error in written.errors]
    assert [type(each.error) for each in writer.listed][:2] == [ReviewUnreadableError, type(None)]


def test_one_report_is_written_by_itself(reports: ReportExperiments) -> None:
    assert list(reports.write("EXP-900")) == ["memory:EXP-900"]
    assert isinstance(reports.writer, MemoryReports)
    assert reports.writer.listed == ()


def test_what_never_ran_cannot_be_reported_and_the_error_says_what_to_type(reports: ReportExperiments) -> None:
    with pytest.raises(NoResultsError, match="semantic experiment run EXP-901"):
        reports.write("EXP-901")
