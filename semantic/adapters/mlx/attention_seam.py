"""The one seam between our caches and mlx_lm's models.

Models import ``scaled_dot_product_attention`` by name, so every module of an attention layer holds its own binding.
While at least one engine is open, that name is bound to a dispatcher: a cache of ours attends itself, any other
call reaches the original untouched. The last engine to close restores the original.
"""

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn

Attention = Callable[..., mx.array]

_NAME = "scaled_dot_product_attention"
_lock = threading.Lock()
_bound: dict[str, tuple[Attention, int]] = {}  # module name -> (original, engines that hold it)


class AttentionNotServedError(Exception):
    """The model asks a kind of attention that this cache can't compute; the engine then picks another lane."""


class LayerCache(ABC):
    """One layer's cache, for one forward of one or more sequences, in the shape that mlx_lm's models expect."""

    offset: int | mx.array

    @abstractmethod
    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Take the new ``[batch, kv_heads, n, head_dim]`` keys and values; what returns only :meth:`attend` can use."""

    @abstractmethod
    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, original: Attention, **how: Any) -> mx.array:
        """Attention of ``[batch, heads, n, head_dim]`` on all that the cache holds, this call's tokens included.

        ``how``: scale, mask and sinks as the model passed them. Raises :class:`AttentionNotServedError`.
        """


def attention_modules(model: nn.Module) -> list[ModuleType]:
    """The Python modules of the model's layers that hold a binding of the attention function."""
    names = {type(part).__module__ for part in model.modules()}
    modules = (sys.modules[name] for name in sorted(names))
    return [module for module in modules if hasattr(module, _NAME)]


class AttentionSeam:
    """One engine's hold on the dispatchers in a model's modules."""

    def __init__(self, model: nn.Module) -> None:
        self._held = [module.__name__ for module in attention_modules(model)]
        with _lock:
            for name in self._held:
                module = sys.modules[name]
                original, holders = _bound.get(name, (getattr(module, _NAME), 0))
                _bound[name] = (original, holders + 1)
                if holders == 0:
                    setattr(module, _NAME, _dispatcher(original))

    def release(self) -> None:
        """Give the hold back. Releasing twice is a no-op."""
        with _lock:
            for name in self._held:
                original, holders = _bound.pop(name)
                if holders > 1:
                    _bound[name] = (original, holders - 1)
                else:
                    setattr(sys.modules[name], _NAME, original)
            self._held = []


def _dispatcher(original: Attention) -> Attention:
    def scaled_dot_product_attention(queries: mx.array, keys: Any, values: Any, *args: Any, **kwargs: Any) -> mx.array:
        cache = args[0] if args else kwargs.get("cache")
        if not isinstance(cache, LayerCache):
            return original(queries, keys, values, *args, **kwargs)
        how = dict(zip(("scale", "mask", "sinks"), args[1:], strict=False)) | kwargs
        how.pop("cache", None)
        return cache.attend(queries, keys, values, original, **how)

    return scaled_dot_product_attention
