"""``semantic experiment run`` and ``list``: what they print, and their exit codes."""

import json
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest
from small_experiments import SCRIPT, SIZES, Invoke, write

from semantic.adapters.cli.experiment_run import time_left


def test_run_exits_with_0_only_if_all_are_go(invoke: Invoke) -> None:
    assert invoke("run", "EXP-001").exit_code == 0
    assert invoke("run", "EXP-002").exit_code == 1
    assert invoke("run", "EXP-003").exit_code == 1
    assert invoke("run", "EXP-001", "EXP-002").exit_code == 1


def test_run_prints_the_criteria_and_the_decision(invoke: Invoke) -> None:
    printed = invoke("run", "EXP-002").output
    assert "EXP-002 An example: NO-GO" in printed
    assert "FAIL  C1 must    3         == 0      Differences" in printed
    assert "Not passed: C1 (Differences): 3, required == 0." in printed


def test_run_of_several_ends_with_a_table_of_decisions(invoke: Invoke) -> None:
    lines = invoke("run", "EXP-001", "EXP-003").output.splitlines()
    assert [line.split("  ")[:2] for line in lines[-2:]] == [["EXP-001", "GO"], ["EXP-003", "CONDITIONAL GO"]]


def test_run_writes_results_and_report_beside_the_scripts_or_where_it_is_told(
    invoke: Invoke, folder: Path, tmp_path: Path
) -> None:
    invoke("run", "EXP-001")
    left = {"exp_001_report.md", "exp_001_results.json", "index.md"}
    assert {path.name for path in (folder / "data").iterdir()} >= left
    invoke("run", "EXP-001", "--data", str(tmp_path / "elsewhere"))
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} >= left


def test_run_as_json_prints_one_document(invoke: Invoke) -> None:
    result = invoke("run", "EXP-001", "EXP-003", "--json", "--model", "other")
    printed = json.loads(result.stdout)
    assert [(one["id"], one["decision"], one["model"]) for one in printed] == [
        ("EXP-001", "GO", "other"),
        ("EXP-003", "CONDITIONAL GO", "other"),
    ]
    assert printed[0]["criteria"][0]["measured"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["EXP-009"], "no experiment EXP-009"),
        (["EXP-001", "--profile", "slow"], "no profile 'slow'"),
        ([], "name the experiments to run, or pass --all"),
    ],
)
def test_wrong_usage_exits_with_2_before_anything_runs(
    invoke: Invoke, folder: Path, arguments: list[str], complaint: str
) -> None:
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert complaint in result.output
    assert not (folder / "data").exists()


def test_an_experiment_that_cannot_be_read_exits_with_1_and_points_at_the_file(invoke: Invoke, folder: Path) -> None:
    write(folder, "EXP-005", "import nothing_of_this_name\n")
    result = invoke("run", "EXP-005")
    assert result.exit_code == 1
    assert "exp_005_x.py:1: ModuleNotFoundError" in result.output


def test_an_interrupt_exits_with_130_and_saves(invoke: Invoke, folder: Path) -> None:
    assert invoke("run", "EXP-004").exit_code == 130
    assert (folder / "data" / "exp_004_results.json").exists()


def test_list_shows_status_and_last_decision_of_all(invoke: Invoke) -> None:
    invoke("run", "EXP-002")
    result = invoke("list", "--json")
    assert result.exit_code == 0
    assert [(row["id"], row["status"], row["decision"]) for row in json.loads(result.stdout)] == [
        ("EXP-001", "pending", "-"),
        ("EXP-002", "failed", "NO-GO"),
        ("EXP-003", "pending", "-"),
        ("EXP-004", "pending", "-"),
    ]


def test_list_names_what_is_broken_beside_the_others_and_exits_with_1(invoke: Invoke, folder: Path) -> None:
    write(folder, "EXP-005", "EXPERIMENT = None\n")
    result = invoke("list")
    assert result.exit_code == 1
    assert "EXP-001" in result.output
    assert "exp_005_x.py:1: must define EXPERIMENT" in result.output


# -- parameters, sweeps, several, JUnit ----------------------------------------------------------------


def test_set_gives_a_parameter_its_declared_type(invoke: Invoke, folder: Path) -> None:
    write(folder, "EXP-006", SIZES.format(id="EXP-006"))
    assert invoke("run", "EXP-006").exit_code == 1
    result = invoke("run", "EXP-006", "--set", "size=4", "--set", "seed=7", "--json")
    (printed,) = json.loads(result.stdout)
    assert (printed["decision"], printed["overrides"]) == ("GO", {"size": 4, "seed": 7})
    assert [one["subject"] for one in printed["deviations"]] == ["parameter size", "parameter seed"]


def test_a_sweep_runs_every_combination_and_sets_the_results_side_by_side(invoke: Invoke, folder: Path) -> None:
    write(folder, "EXP-006", SIZES.format(id="EXP-006"))
    result = invoke("run", "EXP-006", "--sweep", "size=4,8", "--sweep", "seed=1,2")
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "criterion size=4+seed=1 size=4+seed=2 size=8+seed=1 size=8+seed=2" in lines
    assert "C1 0 0 ! 4 ! 4" in lines
    assert "decision GO GO NO-GO NO-GO" in lines
    assert sorted(path.name for path in (folder / "data" / "sweeps").iterdir())[:2] == [
        "exp_006_results.size=4+seed=1.json",
        "exp_006_results.size=4+seed=2.json",
    ]
    assert not (folder / "data" / "exp_006_results.json").exists()
    later = [" ".join(line.split()) for line in invoke("show", "6", "--sweeps").output.splitlines()]
    assert "decision GO GO NO-GO NO-GO" in later
    assert len(json.loads(invoke("show", "6", "--sweeps", "--json").stdout)) == 4
    assert invoke("show", "EXP-001", "--sweeps").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set", "sizes=4"], "no parameter 'sizes'; there are seed, size"),
        (["--set", "size=many"], "parameter size is like 1, got 'many'"),
        (["--set", "size"], "--set takes name=value"),
        (["--sweep", "size="], "the sweep of size names no value"),
        (["--sweep", "size=1,2", "--set", "size=3"], "size is both set and swept"),
        (["--all"], "name the experiments to run, or pass --all"),
    ],
)
def test_parameters_that_make_no_sense_exit_with_2_before_anything_runs(
    invoke: Invoke, folder: Path, arguments: list[str], complaint: str
) -> None:
    result = invoke("run", "EXP-001", *arguments)
    assert (result.exit_code, complaint in result.output) == (2, True), result.output
    assert not (folder / "data").exists()


def test_all_runs_every_experiment_and_a_broken_one_keeps_none_from_running(invoke: Invoke, folder: Path) -> None:
    (folder / "scripts" / "exp_004_x.py").unlink()
    write(folder, "EXP-000", "import nothing_of_this_name\n")
    result = invoke("run", "--all")
    assert result.exit_code == 1
    assert [line.split("  ")[:2] for line in result.output.splitlines()[-4:]] == [
        ["EXP-000", "not run"],
        ["EXP-001", "GO"],
        ["EXP-002", "NO-GO"],
        ["EXP-003", "CONDITIONAL GO"],
    ]


def test_a_crash_outside_of_a_run_points_at_its_line_and_the_others_still_run(invoke: Invoke, folder: Path) -> None:
    write(folder, "EXP-001", SCRIPT.format(id="EXP-001", value=0, more="raise SystemExit(3)"))
    result = invoke("run", "EXP-001", "EXP-003")
    assert result.exit_code == 1
    assert f"{folder}/scripts/exp_001_x.py:7: SystemExit: 3" in result.output
    assert "EXP-003  CONDITIONAL GO" in result.output


def test_a_run_that_crashed_is_told_with_its_reason(invoke: Invoke, folder: Path) -> None:
    more = "with lab.run('other'):\n        raise RuntimeError('boom')"
    write(folder, "EXP-001", SCRIPT.format(id="EXP-001", value=0, more=more))
    result = invoke("run", "EXP-001")
    assert result.exit_code == 1
    assert "run 2 other: crashed: RuntimeError: boom" in result.output.splitlines()


def test_a_criterion_that_nothing_measured_points_at_its_line(invoke: Invoke, folder: Path) -> None:
    text = SCRIPT.format(id="EXP-001", value=0, more="").replace(
        'title="An example"', 'title="An example", criteria=(must("C1", "a", exactly(0)), must("N1", "b", exactly(0)))'
    )
    write(folder, "EXP-001", "from semantic.experiments import exactly, must" + text)
    result = invoke("run", "EXP-001")
    assert result.exit_code == 1
    assert f"issue: {folder}/scripts/exp_001_x.py:3: criterion N1 is declared and was not measured" in result.output


def test_results_of_a_newer_schema_are_kept_and_the_others_still_run(invoke: Invoke, folder: Path) -> None:
    invoke("run", "EXP-001")
    path = folder / "data" / "exp_001_results.json"
    newer = path.read_text().replace('"version": 2', '"version": 99')
    path.write_text(newer)
    result = invoke("run", "EXP-001", "EXP-003", "--json")
    printed = json.loads(result.stdout)
    assert [one["decision"] for one in printed] == ["CONDITIONAL GO", None]
    assert "exp_001_results.json:3 has results of schema version 99" in printed[1]["error"]
    assert path.read_text() == newer


def test_a_missing_prerequisite_points_at_its_line_and_the_others_still_run(invoke: Invoke, folder: Path) -> None:
    needs = "from semantic.experiments import Dependency, Prerequisites" + SCRIPT.replace(
        "example_experiment(",
        'example_experiment(prerequisites=Prerequisites(\n    dependencies=(Dependency("no_such"),)),',
    )
    write(folder, "EXP-005", needs.format(id="EXP-005", value=0, more=""))
    result = invoke("run", "EXP-005", "EXP-003")
    assert result.exit_code == 1
    assert "exp_005_x.py:4) needs what is not there: dependency no_such" in " ".join(result.output.split())
    assert "pip install 'no-such'" in " ".join(result.output.split())
    assert "EXP-003  CONDITIONAL GO" in result.output


def test_results_that_cannot_be_written_are_told_before_anything_runs(invoke: Invoke, folder: Path) -> None:
    (folder / "data").write_text("a file where the folder should be")
    result = invoke("run", "EXP-001", "EXP-003")
    assert result.exit_code == 1
    assert "data cannot be written" in " ".join(result.output.split())
    assert [line.split()[:3] for line in result.output.splitlines()[-2:]] == [
        ["EXP-001", "not", "run"],
        ["EXP-003", "not", "run"],
    ]


def test_junit_has_a_case_for_each_criterion_and_decision_and_an_error_for_what_could_not_run(
    invoke: Invoke, folder: Path, tmp_path: Path
) -> None:
    write(folder, "EXP-005", "import nothing_of_this_name\n")
    invoke("run", "1", "2", "5", "--junit", str(tmp_path / "out" / "junit.xml"))
    suites = xml.parse(tmp_path / "out" / "junit.xml").getroot()
    counts = [(suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) for suite in suites]
    assert counts == [("EXP-001", "3", "0", "0"), ("EXP-002", "3", "2", "0"), ("EXP-005", "1", "0", "1")]
    assert [case.get("name") for case in suites[1] if case.find("failure") is not None] == [
        "C1 Differences",
        "decision NO-GO",
    ]
    assert [case.get("name") for case in suites[0] if case.find("skipped") is not None] == ["N1 Seconds"]


def test_a_junit_file_that_cannot_be_written_is_told_and_the_results_are_kept(invoke: Invoke, folder: Path) -> None:
    result = invoke("run", "EXP-001", "--junit", str(folder / "scripts"))
    assert result.exit_code == 1
    assert "scripts cannot be written" in " ".join(result.output.split())
    assert (folder / "data" / "exp_001_results.json").exists()


def test_reports_that_cannot_be_written_are_told_and_the_results_are_kept(invoke: Invoke, folder: Path) -> None:
    (folder / "data" / "exp_001_report.md").mkdir(parents=True)
    result = invoke("run", "EXP-001")
    assert result.exit_code == 1
    assert "EXP-001: results are kept, reports cannot be written" in " ".join(result.output.split())
    assert (folder / "data" / "exp_001_results.json").exists()


def test_a_review_that_cannot_be_read_is_told_before_anything_runs(invoke: Invoke, folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "exp_001_review.toml").write_text("summary = ")
    result = invoke("run", "EXP-001")
    assert result.exit_code == 1
    assert "exp_001_review.toml: Invalid value" in " ".join(result.output.split())
    assert not (folder / "data" / "exp_001_results.json").exists()


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (65.2, "0:01:05 left"), (3600.0, "1:00:00 left")])
def test_the_time_left_reads_as_a_clock_does(seconds: float | None, text: str) -> None:
    assert time_left(seconds) == text


def test_an_interrupted_run_goes_on_with_resume(invoke: Invoke, folder: Path) -> None:
    write(
        folder,
        "EXP-006",
        """
from pathlib import Path
from semantic.adapters.fakes.experiments import example_experiment
EXPERIMENT = example_experiment(id="EXP-006")
MARK = Path(__file__).with_suffix(".mark")
def run(lab):
    def work():
        with MARK.open("a") as file:
            file.write("x")
        return 0
    lab.measure("C1", lab.step("one", work), "kept")
    if MARK.read_text() == "x" and not lab.is_done("one"):
        raise KeyboardInterrupt
""",
    )
    first = invoke("run", "EXP-006")
    assert (first.exit_code, "--resume goes on from there" in first.output) == (130, True)
    assert invoke("list").output.splitlines()[-1].split("  ")[0] == "EXP-006"
    assert "failed (partial)" in invoke("list").output
    second = invoke("run", "EXP-006", "--resume")
    assert second.exit_code == 0, second.output
    assert (folder / "scripts" / "exp_006_x.mark").read_text() == "x"
