"""The values that an experiment is run with, and how one is read from a command line."""

from typing import TypeAlias, cast

Parameter: TypeAlias = int | float | str | bool | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

PARAMETERS_ARE = "it can be a number, a text, a boolean, or a tuple of numbers or texts"

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def is_parameter(value: object) -> bool:
    """Whether an experiment can be run with it, and its results file hold it."""
    if isinstance(value, tuple):
        return all(isinstance(part, int | float | str) for part in value)
    return isinstance(value, bool | int | float | str)


def parse_parameter(text: str, like: Parameter) -> Parameter:
    """The value in ``text``, of the type that ``like`` has; a tuple's elements are separated by commas.

    Raises ValueError where it is no such value.
    """
    if isinstance(like, bool):
        if text.lower() not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[text.lower()]
    if isinstance(like, tuple):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        element = type(like[0]) if like else str
        return cast(Parameter, tuple(element(part) for part in parts))
    return type(like)(text)


def parameter_text(value: Parameter) -> str:
    """As it is written on a command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
