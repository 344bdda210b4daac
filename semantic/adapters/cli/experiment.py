"""``semantic experiment``: list, run. Exit codes: 0 only if all are GO, 1 otherwise, 2 for wrong usage."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from semantic.adapters.cli.output import JsonFlag, complain, print_json, print_table
from semantic.adapters.cli.services import Services
from semantic.application.ports.experiments import CatalogueEntry, Progress, ProgressListener
from semantic.application.run_experiment import RunExperiment
from semantic.domain.errors import ExperimentNotFoundError, SemanticError, UnknownExperimentOptionError
from semantic.domain.experiments import Decision, Execution, Level, Status

Folder = Annotated[
    Path,
    typer.Option(
        "--experiments", envvar="SEMANTIC_EXPERIMENTS", help="Folder with scripts/, fixtures/ and data/ in it."
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="SEMANTIC_EXPERIMENTS_DATA", help="Where results and reports go; data/ in that folder."
    ),
]
Model = Annotated[str | None, typer.Option(help="A known name, a folder, a .gguf file, or a hub id.")]

_COLOURS = {
    Decision.GO: typer.colors.GREEN,
    Decision.CONDITIONAL_GO: typer.colors.YELLOW,
    Decision.NO_GO: typer.colors.RED,
}


def register(app: typer.Typer, services: Services) -> None:
    """Add ``experiment list`` and ``experiment run``."""
    app.add_typer(experiment_app(services), name="experiment")


def experiment_app(services: Services) -> typer.Typer:
    """The group by itself."""
    group = typer.Typer(help="Validation experiments: does it do what it promises, here?", no_args_is_help=True)

    def runner(
        folder: Path, data: Path | None, model: str | None = None, listener: ProgressListener | None = None
    ) -> RunExperiment:
        settings = services.settings(model=model)
        return services.experiments(settings, folder=folder, data=data or folder / "data", listener=listener)

    @group.command("list")
    def list_experiments(
        folder: Folder = Path("experiments"), data: DataFolder = None, as_json: JsonFlag = False
    ) -> None:
        """The experiments there are, with the last decision of each. Exits with 1 if one can't be read."""
        with _usage_errors():
            experiments = runner(folder, data)
            listed = [_listed(entry, experiments) for entry in experiments.catalogue.entries()]
        if as_json:
            print_json(listed)
        else:
            columns = ("id", "title", "status", "decision", "profile", "date")
            print_table(columns, [[row[column] for column in columns] for row in listed])
            for row in listed:
                if row["error"]:
                    complain(row["error"])
        if any(row["error"] for row in listed):
            raise typer.Exit(1)

    @group.command()
    def run(
        ids: Annotated[list[str], typer.Argument(help="EXP-001 EXP-004 ...", show_default=False)],
        profile: Annotated[str, typer.Option(help="quick, full, or another that they declare.")] = "quick",
        model: Model = None,
        folder: Folder = Path("experiments"),
        data: DataFolder = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Run experiments one after the other; write results and a report for each; print the decisions."""
        executions: list[Execution] = []
        broken = False
        with _progress() as listener, _usage_errors():
            experiments = runner(folder, data, model, listener)
            with experiments:
                for outcome in experiments.run_all(ids, profile):
                    if outcome.execution is None:
                        complain(str(outcome.error))
                        broken = True
                        continue
                    executions.append(outcome.execution)
                    if not as_json:
                        _print_execution(outcome.execution)
        if as_json:
            print_json([_summary(execution) for execution in executions])
        elif len(executions) > 1:
            typer.echo()
            print_table(
                ("id", "decision", "time"),
                [(done.experiment_id, done.decision, f"{done.total_s:.1f} s") for done in executions],
            )
        if broken or any(execution.decision is not Decision.GO for execution in executions):
            raise typer.Exit(1)

    return group


@contextmanager
def _usage_errors() -> Iterator[None]:
    """An id or a profile that isn't there is wrong usage; a file that its author has to correct is a failure."""
    try:
        yield
    except (ExperimentNotFoundError, UnknownExperimentOptionError) as error:
        complain(str(error))
        raise typer.Exit(2) from error
    except SemanticError as error:
        complain(str(error))
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        complain("interrupted; what was measured so far is saved")
        raise typer.Exit(130) from interrupt


@contextmanager
def _progress() -> Iterator[ProgressListener | None]:
    """A bar on standard error while it runs; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None)

        def show(progress: Progress) -> None:
            description = f"{progress.experiment_id} {progress.label}"
            bars.update(task, description=description, completed=progress.done, total=progress.total)

        yield show


def _listed(entry: CatalogueEntry, experiments: RunExperiment) -> dict[str, str]:
    """One line of the list; ``error`` says why an experiment or its results can't be read."""
    row = dict.fromkeys(("title", "decision", "profile", "date"), "-")
    row |= {"id": entry.id, "status": Status.PENDING.value, "source": entry.source, "error": ""}
    if entry.experiment is None:
        return row | {"status": "unreadable", "error": str(entry.error)}
    row["title"] = entry.experiment.declaration.title
    try:
        document = experiments.results_store.load(entry.id)
    except SemanticError as error:
        return row | {"status": "unreadable", "error": str(error)}
    if document is None:
        return row
    latest = document.latest
    return row | {
        "status": latest.status.value,
        "decision": latest.decision.value,
        "profile": latest.profile,
        "date": f"{latest.started_at:%Y-%m-%d}",
    }


def _print_execution(execution: Execution) -> None:
    decision = typer.style(execution.decision.value, fg=_COLOURS[execution.decision], bold=True)
    typer.echo(f"\n{execution.experiment_id} {execution.title}: {decision}  ({execution.total_s:.1f} s)")
    print_table(
        ("", "criterion", "measured", "required", "statement"),
        [
            (
                "pass" if result.passed else "FAIL" if result.level is Level.MUST else "miss",
                f"{result.criterion_id} {result.level}",
                "-" if result.measured is None else f"{result.measured:.6g}",
                result.threshold,
                result.statement,
            )
            for result in execution.criteria
        ],
    )
    for caveat in execution.caveats:
        typer.echo(f"caveat: {caveat}")
    if execution.decision is not Decision.GO:
        typer.echo(execution.rationale)


def _summary(execution: Execution) -> dict[str, Any]:
    """What a machine wants to know; the results file has all of it."""
    return {
        "id": execution.experiment_id,
        "title": execution.title,
        "decision": execution.decision,
        "rationale": execution.rationale,
        "status": execution.status,
        "profile": execution.profile,
        "model": execution.model,
        "total_s": execution.total_s,
        "criteria": list(execution.criteria),
        "hypotheses": list(execution.hypotheses),
        "caveats": list(execution.caveats),
        "deviations": list(execution.deviations),
        "stopped_early": execution.stopped_early,
    }
