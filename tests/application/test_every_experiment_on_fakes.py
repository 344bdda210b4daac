"""No experiment is left out of the tests on fakes: each can be tried without a model, in moments."""

from pathlib import Path

from semantic.adapters.reports.folder_catalogue import FolderCatalogue

REPOSITORY = Path(__file__).parents[2]


def test_every_experiment_of_the_repository_is_run_on_fakes_by_some_test_here() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*_on_fakes.py"))
    ids = [entry.id for entry in FolderCatalogue(REPOSITORY / "experiments").entries()]
    assert [id for id in ids if f'"{id}"' not in tests] == []
