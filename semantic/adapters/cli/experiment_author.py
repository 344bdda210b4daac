"""``semantic experiment new`` and ``validate``: for whoever writes experiments."""

from pathlib import Path
from typing import Annotated

import typer

from semantic.adapters.cli.experiment_options import FOLDER, DataFolder, Folder, MakeRunner, usage_errors
from semantic.adapters.cli.output import JsonFlag, complain, print_json
from semantic.adapters.reports.decisions import read_decisions
from semantic.adapters.reports.new_script import write_new_script
from semantic.application.validate_experiments import ValidateExperiments

Title = Annotated[str, typer.Argument(help='As "Time to the first token".', show_default=False)]
Adrs = Annotated[
    Path | None, typer.Option("--adrs", help="Folder of decisions (NNNN-title.md); docs/adr beside the experiments.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail for warnings too.")]


def register(group: typer.Typer, make: MakeRunner) -> None:
    """Add both commands."""

    @group.command()
    def new(title: Title, folder: Folder = FOLDER) -> None:
        """Write a script with every section of the template, which runs as it is. Prints where it lies."""
        with usage_errors():
            path = write_new_script(folder, title)
        typer.echo(path)
        number = path.name.split("_")[1]
        typer.echo(f"edit it, then: semantic experiment run EXP-{number} --experiments {folder}", err=True)

    @group.command()
    def validate(
        folder: Folder = FOLDER,
        data: DataFolder = None,
        adrs: Adrs = None,
        strict: Strict = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Check declarations, stored results against their schema, reviews, and links to decisions both ways.

        Runs nothing. Exits with 1 if something is wrong; warnings (no owner, not run yet, results older than their
        script or newer than their approval) count with --strict only.
        """
        with usage_errors():
            experiments = make(folder, data)
            decisions = read_decisions(adrs or folder.parent / "docs" / "adr")
            checks = ValidateExperiments(
                experiments.catalogue, experiments.results_store, experiments.reviews, decisions
            )
            complaints = checks.complaints()
        if as_json:
            print_json(list(complaints))
        for complaint in complaints if not as_json else ():
            kind = "warning: " if complaint.is_warning else ""
            line = f"{kind}{complaint.experiment_id} ({complaint.where}): {complaint.text}"
            if complaint.is_warning:
                typer.echo(line)
            else:
                complain(line)
        if any(strict or not complaint.is_warning for complaint in complaints):
            raise typer.Exit(1)
        if not as_json:
            typer.echo("all experiments are valid")
