"""Results as JSON files, ``exp_NNN_results.json``, with the name and version of their schema."""

import json
import math
from pathlib import Path
from typing import Any

from cattrs import Converter
from cattrs.errors import BaseValidationError
from cattrs.preconf.json import make_converter

from semantic.adapters.reports.atomic import write_atomically
from semantic.adapters.reports.older_results import upgraded
from semantic.domain.errors import ResultsTooNewError, ResultsUnreadableError
from semantic.domain.experiments import Cell, Parameter, ResultsDocument

SCHEMA = "semantic.experiment-results"
VERSION = 2
"""Raised when a reader of the previous version could misread a file; new optional fields don't raise it.

1: history with commit, versions and bare values. 2: history with environment, intervals and verdicts.
"""


class JsonResultsStore:
    """One file for each experiment in ``folder``, replaced atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._converter = _converter()

    def path(self, experiment_id: str) -> Path:
        """``exp_001_results.json`` for EXP-001."""
        return self.folder / f"{experiment_id.lower().replace('-', '_')}_results.json"

    def load(self, experiment_id: str) -> ResultsDocument | None:
        """What was saved last, or None. Raises ``ResultsUnreadableError`` or ``ResultsTooNewError``."""
        path = self.path(experiment_id)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ResultsUnreadableError(f"{path} cannot be read: {error}") from error
        version = content.get("version") if isinstance(content, dict) and content.get("schema") == SCHEMA else None
        if not isinstance(version, int):
            raise ResultsUnreadableError(f"{path} holds no experiment results; move it away and run again")
        if version > VERSION:
            raise ResultsTooNewError(str(path), version, VERSION)
        try:
            return self._converter.structure(upgraded(content), ResultsDocument)
        except (BaseValidationError, KeyError, TypeError, ValueError) as error:
            raise ResultsUnreadableError(f"{path} does not follow its schema: {error!r}") from error

    def save(self, document: ResultsDocument) -> str:
        """Write the file and return its path. Raises ``OSError`` where the folder can't be written."""
        path = self.path(document.latest.experiment_id)
        content = {"schema": SCHEMA, "version": VERSION, **self._converter.unstructure(document)}
        text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(path, text + "\n")
        return str(path)


def _converter() -> Converter:
    converter = make_converter()
    converter.register_structure_hook_func(lambda kind: kind == Cell, lambda value, _: value)
    converter.register_structure_hook_func(
        lambda kind: kind == Parameter, lambda value, _: tuple(value) if isinstance(value, list) else value
    )
    return converter


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity; as text a reader still sees what they were."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
