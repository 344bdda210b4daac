"""What a step may give back, and a row may hold: only what a results file can, so that no work is lost in the end."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from semantic.domain.errors import ExperimentDeclarationError
from semantic.domain.experiments import Cell, Kept


def as_kept(value: Any, label: str) -> Kept:
    """The value as it will be read back: tuples as lists. Raises :class:`ExperimentDeclarationError` for others."""
    plain = _plain(value)
    if plain is None or isinstance(plain, bool | int | float | str):
        return plain
    if isinstance(value, list | tuple):
        return [as_kept(part, label) for part in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: as_kept(part, label) for key, part in value.items()}
    raise ExperimentDeclarationError(
        f"step {label!r} gives back a {type(value).__name__}; it can keep numbers, texts, booleans, and lists and "
        "mappings (by text) of these"
    )


def as_cell(value: Any, column: str) -> Cell:
    """The value as it will be read back. Raises :class:`ExperimentDeclarationError` for what no cell can hold."""
    plain = _plain(value)
    if plain is None or isinstance(plain, bool | int | float | str):
        return plain
    raise ExperimentDeclarationError(
        f"a row's column {column!r} is a {type(value).__name__}; it can hold a number, a text, a boolean or None"
    )


def _plain(value: Any) -> Any:
    """A number of another library, numpy's for one, as Python's own."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value
