"""Results as JSON files, ``exp_NNN_results.json``, with the name and version of their schema."""

import json
import math
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError
from cattrs.preconf.json import make_converter

from semantic.adapters.atomic import write_atomically
from semantic.adapters.reports.older_results import upgraded
from semantic.adapters.reports.script_reading import line_matching
from semantic.domain.errors import ResultsNotWritableError, ResultsTooNewError, ResultsUnreadableError
from semantic.domain.experiments import Cell, Parameter, ResultsDocument

SCHEMA = "semantic.experiment-results"
VERSION = 2
"""Raised when a reader of the previous version could misread a file; new optional fields don't raise it.

1: history with commit, versions and bare values. 2: history with environment, intervals and verdicts.
"""

_UNSAFE = re.compile(r"[^\w=.,+-]")


class JsonResultsStore:
    """One file for each experiment in ``folder``, one for each combination of a sweep in ``folder/sweeps``.

    Each is replaced atomically.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._converter = _converter()

    def prepare(self) -> None:
        """Make the folder and try to write there. Raises ``ResultsNotWritableError``."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise _not_writable(self.folder, error) from error

    def path(self, experiment_id: str, variant: str = "") -> Path:
        """``exp_001_results.json`` for EXP-001, ``sweeps/exp_001_results.pairs=3.json`` for its variant ``pairs=3``."""
        stem = _stem(experiment_id)
        if not variant:
            return self.folder / f"{stem}.json"
        return self.folder / "sweeps" / f"{stem}.{_UNSAFE.sub('_', variant)}.json"

    def location(self, experiment_id: str, variant: str = "") -> str:
        """The path as text."""
        return str(self.path(experiment_id, variant))

    def load(self, experiment_id: str, variant: str = "") -> ResultsDocument | None:
        """What was saved last, or None. Raises ``ResultsUnreadableError`` or ``ResultsTooNewError``."""
        return self.read(self.path(experiment_id, variant))

    def read(self, path: Path) -> ResultsDocument | None:
        """A results file wherever it lies; None if it doesn't. Raises as :meth:`load`."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise ResultsUnreadableError(f"{path}:{error.lineno}: is no JSON: {error.msg}") from error
        except (OSError, ValueError) as error:
            raise ResultsUnreadableError(f"{path} cannot be read: {error}") from error
        version = content.get("version") if isinstance(content, dict) and content.get("schema") == SCHEMA else None
        if not isinstance(version, int):
            raise ResultsUnreadableError(f"{path} holds no experiment results; move it away and run again")
        if version > VERSION:
            line = line_matching(path, r'^\s*"version"')
            raise ResultsTooNewError(f"{path}:{line}", version, VERSION)
        try:
            return self._converter.structure(upgraded(content), ResultsDocument)
        except (BaseValidationError, KeyError, TypeError, ValueError) as error:
            raise ResultsUnreadableError(f"{path} does not follow its schema: {_reasons(error)}") from error

    def combinations(self, experiment_id: str) -> Sequence[ResultsDocument]:
        """Those in ``folder/sweeps``, in order of their names. Raises as :meth:`load`."""
        paths = sorted((self.folder / "sweeps").glob(f"{_stem(experiment_id)}.*.json"))
        return [document for path in paths if (document := self.read(path)) is not None]

    def set_aside(self, experiment_id: str, variant: str = "") -> str:
        """``exp_001_results.json`` becomes ``exp_001_results.json.unreadable``, or ``.unreadable-2``, and so on."""
        path = self.path(experiment_id, variant)
        names = (f"{path.name}.unreadable{'' if number == 1 else f'-{number}'}" for number in count(1))
        aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
        try:
            path.rename(aside)
        except OSError as error:
            raise _not_writable(path, error) from error
        return str(aside)

    def save(self, document: ResultsDocument) -> str:
        """Write the file and return its path. Raises ``ResultsNotWritableError``."""
        path = self.path(document.latest.experiment_id, document.latest.variant)
        content = {"schema": SCHEMA, "version": VERSION, **self._converter.unstructure(document)}
        text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)
        try:
            write_atomically(path, text + "\n")
        except OSError as error:
            raise _not_writable(path, error) from error
        return str(path)


def _stem(experiment_id: str) -> str:
    return f"{experiment_id.lower().replace('-', '_')}_results"


def _not_writable(path: Path, error: OSError) -> ResultsNotWritableError:
    return ResultsNotWritableError(
        f"{path} cannot be written ({error.strerror or error}); make the folder writable, or name another with --data"
    )


def _reasons(error: Exception) -> str:
    """Where in the document it is wrong, and how."""
    if isinstance(error, BaseValidationError):
        return "; ".join(transform_error(error, path="results"))
    return repr(error)


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
