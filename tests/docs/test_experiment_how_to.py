"""The experiment in the how-to runs as it stands there, on fakes and on the default model."""

import re
import tomllib
from pathlib import Path

import pytest

from semantic.adapters.fakes.runner import fake_runner
from semantic.container import cli_services
from semantic.domain.experiments import Execution

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "write-an-experiment.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", HOW_TO.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the how-to says to save it."""
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 30
    path = tmp_path / "experiments" / "scripts" / "exp_101_second_question.py"
    path.parent.mkdir(parents=True)
    path.write_text(example)
    return tmp_path / "experiments"


def check(execution: Execution) -> None:
    assert execution.is_complete
    assert [run.failure for run in execution.runs if run.failure] == []
    assert [result.measured is not None for result in execution.criteria] == [True, True]
    assert len(execution.samples[0].values) == 8


def test_the_example_of_thirty_lines_comes_to_a_decision_on_fakes(folder: Path) -> None:
    execution = fake_runner(folder).run("EXP-101")
    check(execution)
    assert execution.criteria[1].passed


@pytest.mark.model
def test_the_example_is_measured_on_the_default_model(folder: Path) -> None:
    services = cli_services()
    settings = services.settings(model="smollm2-135m")
    with services.experiments(settings, folder=folder, data=folder / "data", listener=None) as runner:
        check(runner.run("EXP-101", "quick"))


def test_the_review_in_the_how_to_can_be_read(folder: Path) -> None:
    from semantic.adapters.reports.review_files import FolderReviews

    (review,) = blocks("toml")
    tomllib.loads(review)
    (folder / "exp_101_review.toml").write_text(review)
    assert FolderReviews(folder).load("EXP-101").sign_off.reviewer == "R. Viewer"
