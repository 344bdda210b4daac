"""The beginning of an experiment: a script that runs as it is, for its author to change."""

import re
from collections.abc import Collection
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from semantic.adapters.atomic import write_atomically
from semantic.adapters.reports.folder_catalogue import FILE_NAME
from semantic.adapters.reports.templates import FOLDER
from semantic.domain.errors import ExperimentDeclarationError, ResultsNotWritableError


def write_new_script(folder: Path, title: str) -> Path:
    """``folder/scripts/exp_NNN_title.py`` with the next free number; the folders are made where they are missing.

    Raises :class:`ExperimentDeclarationError` for a title without letters, ``ResultsNotWritableError`` for the folder.
    """
    words = re.findall(r"[a-z0-9]+", title.lower())
    if not words:
        raise ExperimentDeclarationError(f"the title {title!r} has no letter or digit to name a file after")
    scripts = folder / "scripts"
    environment = Environment(
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    environment.filters.update(literal=_literal, docstring=_escaped)
    try:
        scripts.mkdir(parents=True, exist_ok=True)
        for beside in ("fixtures", "data"):
            (folder / beside).mkdir(exist_ok=True)
        number = next_number([path.name for path in scripts.iterdir()])
        path = scripts / f"exp_{number:03d}_{'_'.join(words)[:40]}.py"
        text = environment.get_template("experiment.py.j2").render(id=f"EXP-{number:03d}", title=title)
        write_atomically(path, text)
    except OSError as error:
        raise ResultsNotWritableError(f"{scripts} cannot be written: {error}") from error
    return path


def next_number(names: Collection[str]) -> int:
    """One more than the highest that a file there has."""
    numbers = [int(matched.group(1)) for name in names if (matched := FILE_NAME.fullmatch(name))]
    return max(numbers, default=0) + 1


def _literal(text: str) -> str:
    """As Python writes it, in double quotes."""
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
