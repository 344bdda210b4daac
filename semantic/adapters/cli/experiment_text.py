"""Executions and comparisons of them as text in a terminal, and as data for machines."""

from collections.abc import Sequence
from typing import Any

import typer

from semantic.adapters.cli.output import print_table
from semantic.domain.experiments import (
    ComparedExecutions,
    CriterionResult,
    Decision,
    Execution,
    Level,
    MeasuredValue,
    ResultsDocument,
)

_COLOURS = {
    Decision.GO: typer.colors.GREEN,
    Decision.CONDITIONAL_GO: typer.colors.YELLOW,
    Decision.NO_GO: typer.colors.RED,
}


def print_execution(execution: Execution) -> None:
    """Decision, criteria, and why where it is not a plain GO."""
    decision = typer.style(execution.decision.value, fg=_COLOURS[execution.decision], bold=True)
    variant = f" [{execution.variant}]" if execution.variant else ""
    typer.echo(f"\n{execution.experiment_id} {execution.title}{variant}: {decision}  ({execution.total_s:.1f} s)")
    print_table(
        ("", "criterion", "measured", "required", "statement"),
        [
            (
                "pass" if result.passed else "FAIL" if result.level is Level.MUST else "miss",
                f"{result.criterion_id} {result.level}",
                _measured(result.measured, result.low, result.high),
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


def print_document(document: ResultsDocument, *, with_logs: bool) -> None:
    """The latest execution with what it rests on, and the history."""
    latest = document.latest
    facts = latest.environment
    print_execution(latest)
    typer.echo("\nevidence")
    for result in latest.criteria:
        typer.echo(f"  {result.criterion_id}: {result.evidence}")
    typer.echo("\nhypotheses")
    for hypothesis in latest.hypotheses:
        typer.echo(f"  {hypothesis.verdict:<8}{hypothesis.statement}")
    for heading, lines in (
        ("deviations", [f"{one.subject}: {one.actual} (declared: {one.declared})" for one in latest.deviations]),
        ("observations", [f"{seen.kind}: {seen.text}" for seen in latest.observations]),
        ("failed runs", [f"{run.number} {run.label}: {run.failure}" for run in latest.runs if run.failure]),
    ):
        if lines:
            typer.echo(f"\n{heading}")
            for line in lines:
                typer.echo(f"  {line}")
    if with_logs:
        for run in latest.runs:
            typer.echo(f"\nrun {run.number}: {run.label} ({run.duration_s:.2f} s)")
            for line in [*run.lines, *run.error.splitlines()]:
                typer.echo(f"  {line}")
    dirty = " with uncommitted changes" if facts.dirty else ""
    typer.echo(f"\n{latest.profile} profile, {latest.model}, {latest.started_at:%Y-%m-%d %H:%M} UTC")
    typer.echo(f"{facts.cpu}, {facts.device} {facts.dtype}, commit {facts.commit[:12] or '-'}{dirty}")
    if document.history:
        typer.echo("")
        rows = [
            (f"@{number}", f"{past.started_at:%Y-%m-%d %H:%M}", past.profile, past.model, str(past.decision))
            for number, past in enumerate(document.history, start=1)
        ]
        print_table(("earlier", "started", "profile", "model", "decision"), rows)


def print_side_by_side(executions: Sequence[Execution]) -> None:
    """The combinations of a sweep: a column for each, a line for each criterion."""
    columns = ("criterion", *(execution.variant for execution in executions))
    results = [{result.criterion_id: result for result in execution.criteria} for execution in executions]
    ids = dict.fromkeys(id for of_one in results for id in of_one)
    rows = [(id, *(_cell(of_one.get(id)) for of_one in results)) for id in ids]
    decisions = ("decision", *(execution.decision.value for execution in executions))
    typer.echo(f"\n{executions[0].experiment_id} {executions[0].title}")
    print_table(columns, [*rows, decisions])


def print_comparison(compared: ComparedExecutions) -> None:
    """What differs about the two, then every value with what can be said of it."""
    first, second = compared.first, compared.second
    typer.echo(f"A: {first.label}\nB: {second.label}\n")
    print_table(("", "A", "B"), [(fact.name, fact.first or "-", fact.second or "-") for fact in compared.facts])
    typer.echo("")
    rows = [
        (
            "!" if value.change.is_notable else "",
            value.name,
            _value(value.first),
            _value(value.second),
            "-" if value.ratio is None else f"{value.ratio:.3f}",
            str(value.change),
        )
        for value in compared.values
    ]
    print_table(("", "measured", "A", "B", "B/A", "change"), rows)


def summary(execution: Execution) -> dict[str, Any]:
    """What a machine wants to know; the results file has all of it."""
    return {
        "id": execution.experiment_id,
        "title": execution.title,
        "decision": execution.decision,
        "rationale": execution.rationale,
        "status": execution.status,
        "profile": execution.profile,
        "model": execution.model,
        "variant": execution.variant,
        "overrides": dict(execution.overrides),
        "total_s": execution.total_s,
        "criteria": list(execution.criteria),
        "hypotheses": list(execution.hypotheses),
        "caveats": list(execution.caveats),
        "deviations": list(execution.deviations),
        "stopped_early": execution.stopped_early,
    }


def comparison_data(compared: ComparedExecutions) -> dict[str, Any]:
    """The same as :func:`print_comparison`."""
    return {
        "first": compared.first.label,
        "second": compared.second.label,
        "decisions": [compared.first.summary.decision, compared.second.summary.decision],
        "facts": list(compared.facts),
        "values": list(compared.values),
    }


def _cell(result: CriterionResult | None) -> str:
    if result is None:
        return "-"
    return f"{'' if result.passed else '! '}{_measured(result.measured, result.low, result.high)}"


def _value(value: MeasuredValue | None) -> str:
    return "-" if value is None else _measured(value.value, value.low, value.high)


def _measured(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    if low is None or high is None:
        return f"{value:.6g}"
    return f"{value:.4g} [{low:.4g}, {high:.4g}]"
