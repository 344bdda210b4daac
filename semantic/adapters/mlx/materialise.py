"""Evaluates every array a model holds, so that another thread may run it.

A lazy array belongs to the thread that made it: run elsewhere it fails with "There is no Stream in current
thread". ``mx.eval(model.parameters())`` is not enough: names with an underscore (llama3 and YaRN RoPE's
``_freqs``) are left out.
"""

import functools
import types
from collections.abc import Iterator
from typing import Any

_LEAVES = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType)


def materialise(model: Any) -> int:
    """Evaluate all arrays reachable from ``model`` on this thread; returns how many. Values do not change."""
    import mlx.core as mx

    arrays = list(_arrays(model, mx.array))
    mx.eval(arrays)
    return len(arrays)


def _arrays(root: Any, array_type: type) -> Iterator[Any]:
    seen: set[int] = set()
    pending = [root]
    while pending:
        value = pending.pop()
        if isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, array_type):
            yield value
        else:
            pending.extend(_children(value))


def _children(value: Any) -> Iterator[Any]:
    """What an object holds: items, attributes, and what a function or partial has captured."""
    if isinstance(value, dict):  # every nn.Module is one: its parameters, private ones included, are items
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield value.__self__
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # a cell that was never filled
                continue
    if hasattr(value, "__dict__"):
        yield from vars(value).values()
