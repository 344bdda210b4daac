"""Experiments as files in a folder."""

import hashlib
from pathlib import Path

import pytest

from semantic.adapters.reports.folder_catalogue import FolderCatalogue
from semantic.domain.errors import ExperimentDeclarationError, ExperimentNotFoundError

GOOD = """
from semantic.adapters.fakes.experiments import example_experiment
EXPERIMENT = example_experiment(id="{id}")
def run(lab): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    write(tmp_path, "exp_001_one.py", GOOD.format(id="EXP-001"))
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / "scripts" / name).write_text(text)


def test_the_repository_s_own_experiments_are_all_valid() -> None:
    entries = FolderCatalogue(Path(__file__).parents[2] / "experiments").entries()
    assert [entry.error for entry in entries if entry.error] == []
    assert [entry.id for entry in entries][:4] == ["EXP-001", "EXP-002", "EXP-003", "EXP-004"]


@pytest.mark.parametrize("name", ["EXP-001", "exp-001", "exp_001", "1", "001"])
def test_an_experiment_is_found_by_its_id_in_any_usual_spelling(folder: Path, name: str) -> None:
    assert FolderCatalogue(folder).find(name).declaration.id == "EXP-001"


def test_an_unknown_id_is_refused_with_those_there_are(folder: Path) -> None:
    with pytest.raises(ExperimentNotFoundError, match=r"no experiment EXP-009 .*; there are: EXP-001"):
        FolderCatalogue(folder).find("EXP-009")


def test_a_folder_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ExperimentNotFoundError, match="SEMANTIC_EXPERIMENTS"):
        FolderCatalogue(tmp_path).entries()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1\ny = (\n", r"exp_002_two\.py:2: SyntaxError"),
        ("\n\nimport nothing_of_this_name\n", r"exp_002_two\.py:3: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", r"exp_002_two\.py:2: SystemExit: 3"),
        ("x = 1\n", r"exp_002_two\.py:1: must define EXPERIMENT"),
        ("x = 1\nEXPERIMENT = x\n", r"exp_002_two\.py:2: must define EXPERIMENT"),
        (GOOD.format(id="EXP-001"), r"exp_002_two\.py:3: declares EXP-001; its name says EXP-002"),
        (GOOD.format(id="EXP-002").replace("id=", "title='', id="), r"exp_002_two\.py:3: .*title is empty"),
    ],
)
def test_a_broken_file_is_an_error_that_points_at_it_and_hides_no_other(
    folder: Path, text: str, complaint: str
) -> None:
    write(folder, "exp_002_two.py", text)
    catalogue = FolderCatalogue(folder)
    good, broken = catalogue.entries()
    assert good.experiment is not None
    assert broken.id == "EXP-002"
    with pytest.raises(ExperimentDeclarationError, match=complaint):
        catalogue.find("EXP-002")


def test_lines_are_found_in_a_folder_named_from_where_one_stands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "exp_002_two.py", "\n\nimport nothing_of_this_name\n")
    write(folder, "exp_003_three.py", "x = 1\ny = (\n")
    monkeypatch.chdir(folder.parent)
    errors = [str(entry.error) for entry in FolderCatalogue(Path(folder.name)).entries()[1:]]
    assert errors[0].startswith(f"{folder.name}/scripts/exp_002_two.py:3: ModuleNotFoundError")
    assert errors[1].startswith(f"{folder.name}/scripts/exp_003_three.py:2: SyntaxError")


def test_two_files_with_one_id_are_both_refused_naming_each_other(folder: Path) -> None:
    write(folder, "exp_001_uno.py", GOOD.format(id="EXP-001"))
    errors = [str(entry.error) for entry in FolderCatalogue(folder).entries()]
    assert "exp_001_one.py:3 and " in errors[0]
    assert "exp_001_uno.py:3 have the same id EXP-001" in errors[0]
    assert "exp_001_uno.py:3 and " in errors[1]


def test_other_files_in_the_folder_are_left_alone(folder: Path) -> None:
    write(folder, "helpers.py", "raise SystemExit")
    write(folder, "exp_1_short.py", "raise SystemExit")
    assert len(FolderCatalogue(folder).entries()) == 1


def test_an_experiment_knows_its_digest_its_fixtures_and_the_lines_of_its_criteria() -> None:
    experiment = FolderCatalogue(Path(__file__).parents[2] / "experiments").find("EXP-002")
    source = Path(experiment.source).read_text()
    assert experiment.sha256 == hashlib.sha256(source.encode()).hexdigest()
    assert [Path(path).name for path in experiment.fixtures] == ["exp_001_fixtures.py"]
    assert {"C1", "C2", "N1", "N2", "mlx_lm", "Gemma 3 12B"} <= set(experiment.lines)
    assert '"mlx_lm"' in source.splitlines()[experiment.lines["mlx_lm"] - 1]
    assert 'must("C1"' in source.splitlines()[experiment.lines["C1"] - 1]


def test_an_experiment_may_import_what_is_built_into_python(folder: Path) -> None:
    write(folder, "exp_002_two.py", "import sys\nimport time" + GOOD.format(id="EXP-002"))
    assert FolderCatalogue(folder).find("EXP-002").fixtures == ()


def test_a_hypothesis_without_a_criterion_is_an_error_that_points_at_the_file_and_line(folder: Path) -> None:
    text = GOOD.format(id="EXP-002").replace('id="EXP-002"', 'id="EXP-002", hypotheses=(Hypothesis("h", ()),)')
    write(folder, "exp_002_two.py", "from semantic.experiments import Hypothesis" + text)
    with pytest.raises(ExperimentDeclarationError, match=r"exp_002_two\.py:3: .*'h' rests on no criterion"):
        FolderCatalogue(folder).find("EXP-002")
