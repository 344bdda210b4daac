"""Options that several commands share are declared once, as the fields of a class."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import attrs


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer, in which every parameter whose type is an attrs class stands for the options in its fields.

    A field is declared as a parameter would be, ``name: Annotated[type, typer.Option(...)] = default``.
    """
    signature = inspect.signature(command)
    groups = {name: one.annotation for name, one in signature.parameters.items() if attrs.has(one.annotation)}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in attrs.fields(group)})
        command(**given)

    options = [option for one in signature.parameters.values() for option in _options(one)]
    options.sort(key=lambda option: option.default is not inspect.Parameter.empty)  # arguments that must be given first
    run.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    return run


def _options(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    if not attrs.has(parameter.annotation):
        yield parameter
        return
    for field in attrs.fields(parameter.annotation):
        yield inspect.Parameter(field.name, parameter.kind, default=field.default, annotation=field.type)
