"""``semantic experiment``: new, list, run, report, show, compare, validate."""

from pathlib import Path

import typer

from semantic.adapters.cli import experiment_author, experiment_results, experiment_run
from semantic.adapters.cli.services import Services
from semantic.application.ports.experiments import ProgressListener
from semantic.application.run_experiment import RunExperiment

_HELP = """Validation experiments: does it do what it promises, here?

An experiment is a file scripts/exp_NNN_name.py in a folder (--experiments); it declares what is claimed and how it is
measured, and ends in GO, CONDITIONAL GO or NO-GO. Start one with `new`, run it with `run`; the report lies in data/.
"""


def register(app: typer.Typer, services: Services) -> None:
    """Add the group ``experiment``."""
    app.add_typer(experiment_app(services), name="experiment")


def experiment_app(services: Services) -> typer.Typer:
    """The group by itself."""
    group = typer.Typer(help=_HELP, no_args_is_help=True)

    def make(
        folder: Path, data: Path | None, model: str | None = None, listener: ProgressListener | None = None
    ) -> RunExperiment:
        settings = services.settings(model=model)
        return services.experiments(settings, folder=folder, data=data or folder / "data", listener=listener)

    experiment_author.register(group, make)
    experiment_results.register(group, make)
    experiment_run.register(group, make)
    return group
