"""``semantic experiment`` on a folder of small experiments."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_experiments import SCRIPT, Invoke, write
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
from semantic.adapters.reports.review_files import FolderReviews
from semantic.application.run_experiment import RunExperiment


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
