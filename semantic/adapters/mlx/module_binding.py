"""Binds a function of ours over a name in the Python modules of a model's layers, and gives the name back.

mlx_lm's models import functions by name, so every module holds its own binding. The first holder binds a dispatcher
over the original, the last one restores it; in between the dispatcher decides call by call.
"""

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import mlx.nn as nn

Function = Callable[..., Any]

_lock = threading.Lock()
_bound: dict[tuple[str, str], tuple[Function, int]] = {}  # (module, name) -> (original, holders)


def modules_with(model: nn.Module, name: str) -> list[ModuleType]:
    """The Python modules of the model's layers that hold a binding of ``name``."""
    names = sorted({type(part).__module__ for part in model.modules()})
    loaded = [sys.modules[module] for module in names if module in sys.modules]  # a model's own file is not there
    return [module for module in loaded if hasattr(module, name)]


class ModuleBinding:
    """One holder's claim on ``name`` in the modules of a model. ``dispatcher`` wraps the original function."""

    def __init__(self, model: nn.Module, name: str, dispatcher: Callable[[Function], Function]) -> None:
        self._name = name
        self._held = [module.__name__ for module in modules_with(model, name)]
        with _lock:
            for module in self._held:
                original, holders = _bound.get((module, name), (getattr(sys.modules[module], name), 0))
                _bound[module, name] = original, holders + 1
                if holders == 0:
                    setattr(sys.modules[module], name, dispatcher(original))

    def release(self) -> None:
        """Give the claim back. Releasing twice is a no-op."""
        with _lock:
            for module in self._held:
                original, holders = _bound.pop((module, self._name))
                if holders > 1:
                    _bound[module, self._name] = original, holders - 1
                else:
                    setattr(sys.modules[module], self._name, original)
            self._held = []
