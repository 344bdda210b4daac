"""Reports as HTML pages that need nothing but themselves: no script, no style, image or font from elsewhere."""

import re

from jinja2 import Environment
from markupsafe import Markup, escape

from semantic.adapters.reports import formats
from semantic.adapters.reports.templating import make_environment

CELL_CHARS = 240
"""Longer cells of the data table are cut; the results file has them whole."""

_CODE = re.compile(r"`([^`]+)`")


def html_environment() -> Environment:
    """Templates that write HTML; whatever is put in is escaped."""
    environment = make_environment(autoescape=True)
    environment.filters.update(
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
