"""``semantic experiment``: what it prints, and its exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as xml

import pytest
from typer.testing import CliRunner, Result

from semantic.adapters.cli.experiment import experiment_app
from semantic.adapters.cli.experiment_run import time_left
from semantic.adapters.fakes import FakeClock, RecordingTelemetry
from semantic.adapters.fakes.experiments import FakeEngines, FakeEnvironment, FakeMemoryProbe
from semantic.adapters.fakes.processes import FakeProcesses
from semantic.adapters.fakes.quality import FakeQualityProbe
from semantic.adapters.fakes.reference import FakeReference
from semantic.adapters.fakes.stores import FakeStores
from semantic.adapters.reports.folder_catalogue import FolderCatalogue
from semantic.adapters.reports.folder_reports import FolderReports
from semantic.adapters.reports.json_store import JsonResultsStore
from semantic.adapters.reports.review_files import FolderReviews
from semantic.application.run_experiment import RunExperiment

SCRIPT = """
from semantic.adapters.fakes.experiments import example_experiment
EXPERIMENT = example_experiment(id="{id}", title="An example")
def run(lab):
    with lab.run("only"):
        lab.measure("C1", {value}, "counted")
    {more}
"""

Invoke = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for id, value, more in (
        ("EXP-001", 0, ""),
        ("EXP-002", 3, ""),
        ("EXP-003", 0, "lab.caveat('one tie')"),
        ("EXP-004", 0, "raise KeyboardInterrupt"),
    ):
        write(tmp_path, id, SCRIPT.format(id=id, value=value, more=more))
    return tmp_path


def write(folder: Path, id: str, text: str) -> None:
    (folder / "scripts" / f"{id.lower().replace('-', '_')}_x.py").write_text(text)


@pytest.fixture
def invoke(folder: Path) -> Invoke:
    """Runs the command on the folder; returns the result."""

    def experiments(settings: Any, *, folder: Path, data: Path, listener: Any) -> RunExperiment:
        return RunExperiment(
            model=settings.model,
            catalogue=FolderCatalogue(folder),
            engine_factory=FakeEngines(),
            engine_processes=FakeProcesses(FakeStores()),
            stores=FakeStores(),
            reference_factory=FakeReference,
            quality_probes=FakeQualityProbe(),
            clock=FakeClock(),
            memory_probe=FakeMemoryProbe(),
            results_store=JsonResultsStore(data),
            report_writer=FolderReports(data),
            reviews=FolderReviews(data),
            environment_probe=FakeEnvironment(),
            telemetry=RecordingTelemetry(),
            listener=listener,
        )

    def settings(model: str | None = None) -> Any:
        return SimpleNamespace(model=model or "smollm2-135m")

    app = experiment_app(SimpleNamespace(settings=settings, experiments=experiments))  # type: ignore[arg-type]

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"SEMANTIC_EXPERIMENTS": str(folder)})

    return run


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


SIZES = """
from semantic.adapters.fakes.experiments import example_experiment
EXPERIMENT = example_experiment(id="{id}", title="Sizes")
def run(lab):
    lab.measure("C1", lab.parameters["size"] - 4, "less 4")
    lab.measure("N1", lab.parameters["seed"], "the seed")
"""


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


# -- what is stored ------------------------------------------------------------------------------------


def test_show_prints_the_latest_execution_with_evidence_hypotheses_and_history(invoke: Invoke) -> None:
    invoke("run", "EXP-002")
    invoke("run", "EXP-002", "--set", "size=5")
    printed = invoke("show", "2").output
    assert "EXP-002 An example: NO-GO" in printed
    assert "C1: counted" in printed
    assert "fail    Nothing differs" in printed
    assert "parameter size: 5 (set by the caller) (declared: 2)" in printed
    assert [line.split("  ")[0] for line in printed.splitlines()[-1:]] == ["@1"]
    assert "run 1: only" in invoke("show", "2", "--log").output


def test_show_of_what_never_ran_says_how_to_run_it(invoke: Invoke) -> None:
    result = invoke("show", "EXP-001")
    assert result.exit_code == 1
    assert "semantic experiment run EXP-001" in " ".join(result.output.split())


def test_report_writes_again_from_what_is_stored(invoke: Invoke, folder: Path) -> None:
    invoke("run", "EXP-001")
    report = folder / "data" / "exp_001_report.md"
    report.unlink()
    (folder / "data" / "exp_001_review.toml").write_text('[sign_off]\nreviewer = "R. Viewer"\n')
    result = invoke("report", "EXP-001")
    assert result.exit_code == 0
    assert str(report) in result.output.splitlines()
    assert "R. Viewer" in report.read_text()
    assert invoke("report").exit_code == 0


def test_report_of_all_tells_what_it_could_not_read_and_writes_the_others(invoke: Invoke, folder: Path) -> None:
    invoke("run", "EXP-001", "EXP-002")
    for name in ("exp_001_report.md", "exp_002_report.md"):
        (folder / "data" / name).unlink()
    (folder / "data" / "exp_001_review.toml").write_text("[sign_off]\nreviewer = 5\n")
    result = invoke("report")
    assert result.exit_code == 1
    assert "exp_001_review.toml: " in result.output
    assert not (folder / "data" / "exp_001_report.md").exists()
    assert (folder / "data" / "exp_002_report.md").exists()


def test_compare_tells_what_differs_and_exits_with_1_where_a_verdict_changed(invoke: Invoke, folder: Path) -> None:
    write(folder, "EXP-006", SIZES.format(id="EXP-006"))
    data = str(folder / "data")
    for size in ("4", "4", "5"):
        invoke("run", "EXP-006", "--set", f"size={size}")
    same = invoke("compare", "EXP-006@1", "EXP-006@2", "--data", data)
    assert (same.exit_code, "decision" in same.output) == (0, False)
    result = invoke("compare", "EXP-006@1", f"{data}/exp_006_results.json", "--data", data)
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "decision GO NO-GO" in lines
    assert "parameter size 4 5" in lines
    assert "! C1 0 1 - verdict changed" in lines
    assert "N1 42 42 1.000 same" in lines


def test_compare_of_folders_takes_what_both_have(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    invoke("run", "EXP-001", "EXP-002")
    invoke("run", "EXP-002", "EXP-003", "--data", str(other))
    result = invoke("compare", str(folder / "data"), str(other), "--json")
    assert [one["second"].split(" ")[0] for one in json.loads(result.stdout)] == ["EXP-002"]
    single = invoke("compare", "EXP-002", str(other))
    assert single.exit_code == 0


@pytest.mark.parametrize("name", ["nothing", "EXP-009", "EXP-001@7", "EXP-001@2020-01"])
def test_compare_of_what_is_not_there_is_wrong_usage(invoke: Invoke, folder: Path, name: str) -> None:
    invoke("run", "EXP-001")
    assert invoke("compare", "EXP-001", name, "--data", str(folder / "data")).exit_code == 2


# -- for authors ---------------------------------------------------------------------------------------


def test_new_writes_a_script_with_the_next_free_id_that_runs_as_it_is(invoke: Invoke, folder: Path) -> None:
    result = invoke("new", 'Time to the "first" token', "--experiments", str(folder))
    path = folder / "scripts" / "exp_005_time_to_the_first_token.py"
    assert result.output.splitlines()[0] == str(path)
    ran = invoke("run", "EXP-005", "--json")
    (printed,) = json.loads(ran.stdout)
    assert printed["title"] == 'Time to the "first" token'
    assert printed["decision"] in ("GO", "NO-GO", "CONDITIONAL GO")
    assert printed["stopped_early"] == ""
    assert [one["criterion_id"] for one in printed["criteria"] if one["measured"] is None] == []
    assert invoke("validate").exit_code == 0


def test_new_makes_the_folders_where_there_are_none(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("new", "First", "--experiments", str(tmp_path / "mine"))
    assert result.exit_code == 0
    assert (tmp_path / "mine" / "scripts" / "exp_001_first.py").is_file()
    assert invoke("new", "!!!", "--experiments", str(tmp_path / "mine")).exit_code == 1


def test_validate_is_content_with_what_is_right_and_warns_of_what_did_not_run(invoke: Invoke) -> None:
    result = invoke("validate")
    assert result.exit_code == 0
    assert "has not run yet" in result.output
    assert result.output.splitlines()[-1] == "all experiments are valid"
    assert invoke("validate", "--strict").exit_code == 1


def test_validate_finds_what_is_wrong(invoke: Invoke, folder: Path) -> None:
    invoke("run", "EXP-001", "EXP-002", "EXP-003")
    data, adrs = folder / "data", folder / "adr"
    adrs.mkdir()
    (adrs / "0004-lanes.md").write_text(
        "# ADR 0004\n\nStatus: accepted.\n\nExperiments: [EXP-002](x.md),\n[EXP-077](y.md).\n\n## Context\n\nEXP-003.\n"
    )
    (data / "exp_001_results.json").write_text("{")
    (data / "exp_003_review.toml").write_text("sumary = 1")
    write(folder, "EXP-005", "import nothing_of_this_name\n")
    text = SCRIPT.format(id="EXP-006", value=0, more="").replace("EXPERIMENT = example_experiment(", DECLARED)
    write(folder, "EXP-006", text)
    result = invoke("validate", "--adrs", str(adrs), "--json")
    assert result.exit_code == 1
    found = {(one["experiment_id"], one["text"]) for one in json.loads(result.stdout) if not one["is_warning"]}
    assert ("EXP-002", "is named by ADR-0004, which its related.adrs lacks") in found
    assert ("EXP-006", "names ADR-0009, which is not there") in found
    assert ("EXP-006", "criterion C2 is declared, and nothing in the script measures it") in found
    assert {id for id, _ in found} == {"EXP-001", "EXP-002", "EXP-003", "EXP-005", "EXP-006"}
    where = [one["where"] for one in json.loads(result.stdout) if "criterion C2" in one["text"]]
    assert where[0].endswith("exp_006_x.py:6")


DECLARED = """from semantic.experiments import Hypothesis, Related, exactly, must
EXPERIMENT = example_experiment(
    hypotheses=(Hypothesis("h", ("C1", "C2")),), related=Related(adrs=("ADR-0009",)), criteria=(
    must("C2", "Never", exactly(0)), must("C1", "a", exactly(0))),"""


def test_help_says_what_each_command_does_and_how_it_exits(invoke: Invoke) -> None:
    assert "Exits with 0 only if all are GO" in " ".join(invoke("run", "--help").output.split())
    for command in ("new", "list", "run", "report", "show", "compare", "validate"):
        assert command in invoke("--help").output
