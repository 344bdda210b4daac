"""Reports as HTML pages that need nothing but themselves: no script, no style, image or font from elsewhere."""

import re

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from semantic.adapters.reports import formats
from semantic.adapters.reports.templates import FOLDER

CELL_CHARS = 240
"""Longer cells of the data table are cut; the results file has them whole."""

_CODE = re.compile(r"`([^`]+)`")


def html_environment() -> Environment:
    """Templates that write HTML; whatever is put in is escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        status=formats.STATUS.__getitem__,
        verdict=formats.VERDICT.__getitem__,
        decision_mark=formats.DECISION_MARK.__getitem__,
        decision_means=formats.DECISION_MEANS.__getitem__,
        mark=formats.mark,
        seconds=formats.seconds,
        measured=formats.measured,
        day=formats.day,
        minute=formats.minute,
        moment=formats.moment,
        log_text=formats.log_text,
        one_line=formats.one_line,
        shown=lambda value: formats.shown(value, CELL_CHARS),
        prose=prose,
        drawn=Markup,
    )
    environment.tests["figure"] = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    return environment


def prose(text: str) -> Markup:
    """What a person wrote, escaped; of Markdown only code between backticks is known."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))
