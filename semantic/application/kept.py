"""What a step may give back: only what a results file can hold, so that a resumed execution gets the same."""

from collections.abc import Mapping
from typing import Any

from semantic.domain.errors import ExperimentDeclarationError
from semantic.domain.experiments import Kept


def as_kept(value: Any, label: str) -> Kept:
    """The value as it will be read back: tuples as lists. Raises :class:`ExperimentDeclarationError` for others."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [as_kept(part, label) for part in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: as_kept(part, label) for key, part in value.items()}
    raise ExperimentDeclarationError(
        f"step {label!r} gives back a {type(value).__name__}; it can keep numbers, texts, booleans, and lists and "
        "mappings (by text) of these"
    )
