"""The one seam between our caches and mlx_lm's models.

While at least one engine is open, ``scaled_dot_product_attention`` is bound to a dispatcher in the modules of the
model's layers: a cache of ours attends itself, any other call reaches the original untouched.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from semantic.adapters.mlx.module_binding import ModuleBinding

Attention = Callable[..., mx.array]


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


class HandedOut:
    """Keys that a layer handed out in the forward that goes on, so that attention to them finds its way back to it.

    Layers that share another one's keys pass them on with their own cache, or with none.
    """

    def __init__(self) -> None:
        self._owners: dict[int, tuple[mx.array, LayerCache]] = {}

    def add(self, keys: mx.array, owner: LayerCache) -> None:
        """Remember whose keys these are until :meth:`discard`."""
        self._owners[id(keys)] = keys, owner

    def owner(self, keys: Any) -> LayerCache | None:
        """The layer that handed out these very keys."""
        return self._owners[id(keys)][1] if id(keys) in self._owners else None

    def discard(self, keys: mx.array) -> None:
        """Forget them; unknown ones are ignored."""
        self._owners.pop(id(keys), None)


handed_out = HandedOut()


class AttentionSeam(ModuleBinding):
    """One engine's hold on the dispatchers in a model's modules."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, "scaled_dot_product_attention", _dispatcher)


def _dispatcher(original: Attention) -> Attention:
    def scaled_dot_product_attention(queries: mx.array, keys: Any, values: Any, *args: Any, **kwargs: Any) -> mx.array:
        cache = handed_out.owner(keys) or (args[0] if args else kwargs.get("cache"))
        if not isinstance(cache, LayerCache):
            return original(queries, keys, values, *args, **kwargs)
        how = dict(zip(("scale", "mask", "sinks"), args[1:], strict=False)) | kwargs
        how.pop("cache", None)
        return cache.attend(queries, keys, values, original, **how)

    return scaled_dot_product_attention
