"""``semantic experiment list``, ``show``, ``report`` and ``compare``: what is stored, without running anything."""

from typing import Annotated

import typer

from semantic.adapters.cli.experiment_options import FOLDER, DataFolder, Folder, MakeRunner, usage_errors
from semantic.adapters.cli.experiment_text import (
    comparison_data,
    print_comparison,
    print_document,
    print_side_by_side,
    summary,
)
from semantic.adapters.cli.output import JsonFlag, complain, print_json, print_table
from semantic.adapters.reports.stored_executions import find_pairs
from semantic.application.ports.experiments import ListedExperiment
from semantic.application.report_experiments import Written
from semantic.domain.errors import NoResultsError
from semantic.domain.experiments import Status, compare_executions

Ids = Annotated[list[str] | None, typer.Argument(help="EXP-001 ...; all, where none is named.", show_default=False)]
Id = Annotated[str, typer.Argument(help="EXP-001, also 1", show_default=False)]
Log = Annotated[bool, typer.Option("--log", help="Print the log of every run as well.")]
Sweeps = Annotated[bool, typer.Option("--sweeps", help="Instead, all stored combinations of sweeps side by side.")]
Source = Annotated[
    str,
    typer.Argument(
        help="A results file, a folder of them, EXP-001 (its latest execution), EXP-001@2 (two executions before "
        "that) or EXP-001@2026-11-24 (the latest that started then).",
        show_default=False,
    ),
]


def register(group: typer.Typer, make: MakeRunner) -> None:
    """Add the four commands."""

    @group.command("list")
    def list_experiments(folder: Folder = FOLDER, data: DataFolder = None, as_json: JsonFlag = False) -> None:
        """The experiments there are, with status and last decision of each. Exits with 1 if one can't be read."""
        with usage_errors():
            listed = [_listed(each) for each in make(folder, data).reports.listed()]
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
    def show(
        experiment_id: Id,
        with_logs: Log = False,
        sweeps: Sweeps = False,
        folder: Folder = FOLDER,
        data: DataFolder = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Print the latest execution of one experiment: criteria, evidence, hypotheses, findings, history."""
        with usage_errors():
            experiments = make(folder, data)
            id = experiments.catalogue.find(experiment_id).declaration.id
            store = experiments.results_store
            stored = store.combinations(id) if sweeps else [one for one in [store.load(id)] if one is not None]
            if not stored:
                what = "has not been swept; --sweep NAME=V1,V2 in" if sweeps else "has no results;"
                raise NoResultsError(f"{id} {what} semantic experiment run {id}")
        if as_json:
            found = [summary(document.latest) for document in stored]
            print_json(found if sweeps else found[0])
        elif sweeps:
            print_side_by_side([document.latest for document in stored])
        else:
            print_document(stored[0], with_logs=with_logs)

    @group.command()
    def report(ids: Ids = None, folder: Folder = FOLDER, data: DataFolder = None, as_json: JsonFlag = False) -> None:
        """Write the reports again from stored results, declarations and reviews, and the index over all.

        Exits with 1 if one could not be read; the others are written.
        """
        with usage_errors():
            reports = make(folder, data).reports
            if ids:
                paths = [path for id in ids for path in reports.write(id)]
                written = Written([*paths, *reports.write_index()])
            else:
                written = reports.write_all()
        if as_json:
            print_json(list(written.paths))
        else:
            for path in written.paths:
                typer.echo(path)
        for error in written.errors:
            complain(str(error))
        if written.errors:
            raise typer.Exit(1)

    @group.command()
    def compare(
        first: Source,
        second: Source,
        folder: Folder = FOLDER,
        data: DataFolder = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Put two executions side by side: machines, versions, models, parameters, and what changed.

        "changed" means that the intervals of both lie apart, "within noise" that they overlap, "differs" that one of
        them has none to tell by. With two folders all experiments that both have are compared. Exits with 1 if a
        verdict or a decision is not the same.
        """
        with usage_errors():
            compared = [compare_executions(*pair) for pair in find_pairs(first, second, data or folder / "data")]
        if as_json:
            print_json([comparison_data(one) for one in compared])
        else:
            for one in compared:
                print_comparison(one)
                typer.echo("")
        if not all(one.are_verdicts_same for one in compared):
            raise typer.Exit(1)


def _listed(each: ListedExperiment) -> dict[str, str]:
    """One line of the list; ``error`` says why an experiment or its results can't be read."""
    entry = each.entry
    row = dict.fromkeys(("title", "decision", "profile", "date"), "-")
    row |= {"id": entry.id, "status": Status.PENDING.value, "source": entry.source, "error": ""}
    if entry.experiment is not None:
        row["title"] = entry.experiment.declaration.title
    if each.error is not None:
        return row | {"status": "unreadable", "error": str(each.error)}
    if each.document is None:
        return row
    latest = each.document.latest
    partial = "" if latest.is_complete or latest.status is Status.RUNNING else " (partial)"
    return row | {
        "status": latest.status.value + partial,
        "decision": latest.decision.value,
        "profile": latest.profile,
        "date": f"{latest.started_at:%Y-%m-%d}",
    }
