"""``semantic experiment``: what it prints, and its exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from semantic.adapters.cli.experiment import experiment_app
from semantic.adapters.fakes import FakeClock, RecordingTelemetry
from semantic.adapters.fakes.experiments import FakeEngines, FakeEnvironment, FakeMemoryProbe
from semantic.adapters.fakes.processes import FakeProcesses
from semantic.adapters.fakes.quality import FakeQualityProbe
from semantic.adapters.fakes.reference import FakeReference
from semantic.adapters.fakes.stores import FakeStores
from semantic.adapters.reports.folder_catalogue import FolderCatalogue
from semantic.adapters.reports.folder_reports import FolderReports
from semantic.adapters.reports.json_store import JsonResultsStore
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
        ([], "Missing argument"),
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
    assert "exp_005_x.py: must define EXPERIMENT" in result.output
