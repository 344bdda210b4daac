"""The repository's own experiments, results and decisions agree with each other: what `experiment validate` says."""

from pathlib import Path

from semantic.adapters.reports.decisions import read_decisions
from semantic.adapters.reports.folder_catalogue import FolderCatalogue
from semantic.adapters.reports.json_store import JsonResultsStore
from semantic.adapters.reports.review_files import FolderReviews
from semantic.application.validate_experiments import ValidateExperiments

REPOSITORY = Path(__file__).parents[2]


def test_declarations_results_reviews_and_links_to_decisions_are_valid() -> None:
    data = REPOSITORY / "experiments" / "data"
    checks = ValidateExperiments(
        FolderCatalogue(REPOSITORY / "experiments"),
        JsonResultsStore(data),
        FolderReviews(data),
        read_decisions(REPOSITORY / "docs" / "adr"),
    )
    wrong = [f"{one.where}: {one.text}" for one in checks.complaints() if not one.is_warning]
    assert wrong == []
