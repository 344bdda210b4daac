"""``semantic experiment run``: carry experiments out, show how far they are, print the decisions."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from semantic.adapters.cli.experiment_options import (
    FOLDER,
    DataFolder,
    Folder,
    MakeRunner,
    assignments,
    usage_errors,
)
from semantic.adapters.cli.experiment_text import print_execution, print_side_by_side, summary
from semantic.adapters.cli.options import Model
from semantic.adapters.cli.output import JsonFlag, complain, print_json, print_table
from semantic.adapters.reports.folder_catalogue import normalised_id
from semantic.adapters.reports.junit import write_junit
from semantic.application.ports.experiments import Progress, ProgressListener
from semantic.application.run_experiment import Outcome
from semantic.domain.errors import ExperimentNotFoundError
from semantic.domain.experiments import Decision, Finding

Ids = Annotated[list[str] | None, typer.Argument(help="EXP-001 EXP-004 ..., also 1 4", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="Every experiment in the folder.")]
Profile = Annotated[str, typer.Option(help="quick, full, or another that they declare.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set a declared parameter; its type is the declared one's."),
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="NAME=V1,V2",
        help="Run once for each value; with several, once for each combination. "
        "Values of a parameter that is itself a list are separated by semicolons.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on where an interrupt ended it; what had come to its end is not run again."),
]
JUnit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML for a CI, a test for each criterion.")
]


def register(group: typer.Typer, make: MakeRunner) -> None:
    """Add ``experiment run``."""

    @group.command()
    def run(
        ids: Ids = None,
        every: All = False,
        profile: Profile = "quick",
        model: Model = None,
        settings: Set = None,
        sweep: Sweep = None,
        resume: Resume = False,
        junit: JUnit = None,
        folder: Folder = FOLDER,
        data: DataFolder = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Run experiments one after the other; write results and a report for each; print the decisions.

        Exits with 0 only if all are GO, with 1 if one is not or could not be run, with 2 for wrong usage, and with 130
        after Ctrl-C, which leaves a valid partial result. A sweep leaves the results of each combination in
        data/sweeps, and prints them side by side.
        """
        outcomes: list[Outcome] = []
        with _progress() as listener, usage_errors():
            experiments = make(folder, data, model, listener)
            chosen = _chosen(ids, every, [entry.id for entry in experiments.catalogue.entries()])
            given = assignments("--set", settings or ()), assignments("--sweep", sweep or ())
            try:
                with experiments:
                    for outcome in experiments.run_all(chosen, profile, *given, resume=resume):
                        outcomes.append(outcome)
                        _tell(outcome, as_json=as_json)
            finally:
                if junit is not None:
                    write_junit(junit, outcomes)
        _tell_all(outcomes, as_json=as_json)
        if not all(outcome.execution and outcome.execution.decision is Decision.GO for outcome in outcomes):
            raise typer.Exit(1)


def _chosen(ids: Sequence[str] | None, every: bool, there_are: Sequence[str]) -> Sequence[str]:
    if every == bool(ids):
        raise ExperimentNotFoundError(
            f"name the experiments to run, or pass --all and no names; there are: {', '.join(there_are) or 'none'}"
        )
    return there_are if every else list(dict.fromkeys(normalised_id(id) for id in ids or ()))


def _tell(outcome: Outcome, *, as_json: bool) -> None:
    if outcome.execution is None:
        complain(str(outcome.error))
    elif not as_json:
        print_execution(outcome.execution)
        for failed in [run for run in outcome.execution.runs if run.failure]:
            typer.echo(f"run {failed.number} {failed.label}: {failed.failure}")
        for seen in outcome.execution.observations:
            if seen.kind is Finding.ISSUE:
                typer.echo(f"issue: {seen.text}")


def _tell_all(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    executions = [outcome.execution for outcome in outcomes if outcome.execution is not None]
    if as_json:
        broken = [
            {"id": outcome.experiment_id, "decision": None, "error": str(outcome.error)}
            for outcome in outcomes
            if outcome.execution is None
        ]
        print_json([*(summary(execution) for execution in executions), *broken])
        return
    for _, of_one in groupby(executions, key=lambda execution: execution.experiment_id):
        combinations = [execution for execution in of_one if execution.variant]
        if len(combinations) > 1:
            print_side_by_side(combinations)
    if len(outcomes) > 1:
        typer.echo()
        print_table(("id", "decision", "time"), [_line(outcome) for outcome in outcomes])


def _line(outcome: Outcome) -> tuple[str, str, str]:
    name = f"{outcome.experiment_id} {outcome.variant}".strip()
    done = outcome.execution
    return (name, "not run", "-") if done is None else (name, done.decision.value, f"{done.total_s:.1f} s")


@contextmanager
def _progress() -> Iterator[ProgressListener | None]:
    """A bar on standard error while it runs; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None, left="")

        def show(progress: Progress) -> None:
            bars.update(
                task,
                description=f"{progress.experiment_id} {progress.label}",
                completed=progress.done,
                total=progress.total,
                left=time_left(progress.left_s),
            )

        yield show


def time_left(seconds: float | None) -> str:
    """``0:01:05 left``, or nothing where it can't be told."""
    return "" if seconds is None else f"{timedelta(seconds=round(seconds))} left"
