"""The report of an experiment: the template's headings in order, filled from declaration and results."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from semantic.adapters.reports.atomic import write_atomically
from semantic.domain.experiments import (
    Cell,
    DataRow,
    Decision,
    Experiment,
    ResultsDocument,
    RunLog,
    Status,
    Verdict,
)

CELL_CHARS = 60
"""Longer cells of the data table are cut; the results file has them whole."""

_STATUS = {
    Status.PENDING: "⏳ PENDING",
    Status.RUNNING: "🔄 RUNNING",
    Status.PASSED: "✅ PASSED",
    Status.FAILED: "❌ FAILED",
}
_VERDICT = {Verdict.PASS: "✅ PASS", Verdict.FAIL: "❌ FAIL", Verdict.PARTIAL: "⚠️ PARTIAL"}
_DECISION = {
    Decision.GO: "✅ **GO**: proceed with implementation",
    Decision.NO_GO: "❌ **NO-GO**: block implementation until the issue is resolved",
    Decision.CONDITIONAL_GO: "⚠️ **CONDITIONAL GO**: proceed with caveats",
}


class MarkdownReports:
    """Writes ``exp_NNN_report.md`` into ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            undefined=StrictUndefined,
            autoescape=False,  # Markdown, not HTML
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters.update(
            status=_STATUS.__getitem__,
            verdict=_VERDICT.__getitem__,
            decision=_DECISION.__getitem__,
            mark=lambda passed: "✅" if passed else "❌",
            seconds=seconds,
            number=number,
            cell=cell,
            fence=fence,
            table=table,
            log_text=log_text,
        )
        self._template = environment.get_template("report.md.j2")

    def write(self, experiment: Experiment, document: ResultsDocument) -> str:
        """Render and replace the report; return its path."""
        path = self.folder / f"{experiment.file_stem}_report.md"
        write_atomically(path, self.render(experiment, document))
        return str(path)

    def render(self, experiment: Experiment, document: ResultsDocument) -> str:
        """The report as text."""
        latest = document.latest
        return self._template.render(
            e=experiment,
            x=latest,
            document=document,
            profile_note=experiment.profile(latest.profile).note,
            parameters="\n".join(f"{name} = {value!r}" for name, value in latest.parameters.items()),
        )


def seconds(value: float) -> str:
    """``0.01 s``, ``12.3 s``, ``4 min 5 s``."""
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def number(value: float | None) -> str:
    """Six significant digits, or that there is none."""
    return "nothing" if value is None else f"{value:.6g}"


def cell(value: Cell, limit: int | None = CELL_CHARS) -> str:
    """A value that can stand in a table: one line, no bar, cut at ``limit`` characters."""
    if isinstance(value, bool):
        return "✅" if value else "❌"
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split()) if "\n" in text else text
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.replace("|", "\\|")


def fence(text: str, language: str) -> str:
    """A code block whose fence is longer than any in the text."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}{language}\n{text.strip()}\n{ticks}"


def table(rows: Sequence[DataRow]) -> str:
    """One table of all rows; its columns are all the rows' columns, in the order they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    lines = ["| Run | " + " | ".join(columns) + " |", "|-----|" + "---|" * len(columns)]
    for row in rows:
        cells = (cell(row.cells.get(name)) for name in columns)
        lines.append(f"| {row.run} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def log_text(run: RunLog) -> str:
    """What a run logged, with its traceback."""
    return "\n".join([*run.lines, *([run.error] if run.error else [])]) or "(nothing logged)"
