"""Experiments on fakes, in one call: try a script of your own in a test, in milliseconds and without a model.

>>> from semantic.adapters.fakes.runner import fake_runner
>>> fake_runner("experiments").run("EXP-003").decision.value
'GO'
"""

from pathlib import Path
from typing import Any

from semantic.adapters.fakes.clock import FakeClock
from semantic.adapters.fakes.experiments import (
    FakeEngines,
    FakeEnvironment,
    FakeMemoryProbe,
    MemoryReports,
    MemoryResultsStore,
)
from semantic.adapters.fakes.processes import FakeProcesses
from semantic.adapters.fakes.quality import FakeQualityProbe
from semantic.adapters.fakes.reference import FakeReference
from semantic.adapters.fakes.stores import FakeStores
from semantic.adapters.fakes.telemetry import RecordingTelemetry
from semantic.adapters.reports.folder_catalogue import FolderCatalogue
from semantic.application.run_experiment import RunExperiment


def fake_runner(folder: str | Path, **parts: Any) -> RunExperiment:
    """The real runner on the experiments of ``folder``, with a fake of everything else; ``parts`` replace some.

    Results and reports are kept in memory (``runner.results_store.documents``).
    """
    stores = parts.get("stores") or FakeStores()
    given: dict[str, Any] = {
        "model": "smollm2-135m",
        "catalogue": FolderCatalogue(Path(folder)),
        "engine_factory": FakeEngines(stores=stores),
        "engine_processes": FakeProcesses(stores),
        "stores": stores,
        "reference_factory": FakeReference,
        "quality_probes": FakeQualityProbe(),
        "clock": FakeClock(tick=0.001),
        "memory_probe": FakeMemoryProbe(),
        "results_store": MemoryResultsStore(),
        "report_writer": MemoryReports(),
        "environment_probe": FakeEnvironment(),
        "telemetry": RecordingTelemetry(),
    }
    return RunExperiment(**{**given, **parts})
