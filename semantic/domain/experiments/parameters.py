"""The values that an experiment is run with, and how one is read from a command line."""

from typing import TypeAlias, cast

Parameter: TypeAlias = int | float | str | bool | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


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
