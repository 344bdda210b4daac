"""Reports as Markdown. What an author wrote stays as it is; what was measured cannot become markup."""

import re

from jinja2 import Environment

from semantic.adapters.reports import formats
from semantic.adapters.reports.links import Link
from semantic.adapters.reports.tables import DataTable
from semantic.adapters.reports.templating import make_environment
from semantic.domain.experiments import Cell

CELL_CHARS = 60
"""Longer cells of the data table are cut; the results file has them whole."""

_MARKUP = re.compile(r"""[\\`*|$~] | <(?=[A-Za-z/!?]) | \](?=\() | &(?=\#?\w+;) | (?<!\w)_ | _(?!\w)""", re.VERBOSE)


def markdown_environment() -> Environment:
    """Templates that write Markdown."""
    environment = make_environment(autoescape=False)  # not HTML: `plain` and `cell` escape what was measured
    environment.filters.update(
        plain=plain,
        cell=cell,
        fence=fence,
        table=table,
        link=link,
    )
    return environment


def plain(text: str) -> str:
    """Text that reads as it is, on one line, wherever it stands."""
    return _MARKUP.sub(lambda found: "\\" + found.group(), formats.one_line(text))


def cell(value: Cell, limit: int | None = CELL_CHARS) -> str:
    """A value that can stand in a table."""
    return plain(formats.shown(value, limit))


def fence(text: str, language: str) -> str:
    """A code block whose fence is longer than any in the text."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}{language}\n{text.strip()}\n{ticks}"


def table(data: DataTable) -> str:
    """The rows, each with the number of its run."""
    lines = [
        "| Run | " + " | ".join(cell(name) for name in data.columns) + " |",
        "|-----|" + "---|" * len(data.columns),
    ]
    for row in data.rows:
        cells = (cell(row.cells.get(name)) for name in data.columns)
        lines.append(f"| {row.run} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def link(to: Link) -> str:
    """A link, or its text where it leads nowhere."""
    if not to.target:
        return plain(to.text)
    return f"<{to.target}>" if to.text == to.target else f"[{plain(to.text)}]({to.target.replace(' ', '%20')})"
