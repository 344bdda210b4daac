"""Looks at what a model's own caches are: their kinds, shapes and dtype. No model is known by name."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    ChunkedKVCache,
    KVCache,
    RotatingKVCache,
    make_prompt_cache,
)

from semantic.domain.errors import UnsupportedArchitectureError
from semantic.domain.value_objects import KVPrecision, LayerSpec, ModelCacheSpec

_PROBE_TOKENS = 2
_KINDS = (KVCache, RotatingKVCache, ChunkedKVCache, ArraysCache, CacheList)


def derive_cache_spec(model: nn.Module, block_tokens: int = 256) -> ModelCacheSpec:
    """Run two tokens through the model's own caches and describe what they hold.

    A layer that keeps several caches counts as several. Raises :class:`UnsupportedArchitectureError` for a cache
    that is none of mlx_lm's kinds, and for a model that can't run on this device.
    """
    refuse_unknown_caches(model)
    caches = make_prompt_cache(model)
    logits = _run(model, caches)
    flat = list(flatten_caches(caches))
    dtypes = {str(cache.keys.dtype) for cache in flat if isinstance(getattr(cache, "keys", None), mx.array)}
    dtype = sorted(dtypes or {str(logits.dtype)})[0].removeprefix("mlx.core.")
    return ModelCacheSpec(
        layers=[_layer_spec(cache) for cache in flat],
        precision=KVPrecision(dtype=dtype),
        block_tokens=block_tokens,
    )


def refuse_unknown_caches(model: nn.Module) -> None:
    """Raise :class:`UnsupportedArchitectureError` for a cache of a model's own making. Evaluates nothing."""
    for cache in flatten_caches(make_prompt_cache(model)):
        if not isinstance(cache, _KINDS):
            raise UnsupportedArchitectureError(
                f"a layer keeps its context in a {type(cache).__name__}, a kind of cache that is not served: "
                f"{', '.join(kind.__name__ for kind in _KINDS)} are. mlx_lm.generate runs the model; please report it"
            )


def flatten_caches(caches: list[Any]) -> Iterator[Any]:
    """The caches of a model one by one: lists are opened, layers that keep nothing are left out."""
    for cache in caches:
        if isinstance(cache, CacheList):
            yield from flatten_caches(list(cache.caches))
        elif cache is not None:
            yield cache


def holds_plain_attention(model: nn.Module) -> bool:
    """Whether every layer keeps plain full-attention keys and values, which any lane can serve."""
    return all(type(cache) is KVCache for cache in make_prompt_cache(model))


def _run(model: nn.Module, caches: list[Any]) -> mx.array:
    logits: mx.array
    try:
        logits = model(mx.zeros((1, _PROBE_TOKENS), mx.uint32), cache=caches)
        mx.eval(logits)
    except Exception as exc:  # a model without a kernel for this device, a shape that does not fit
        said = f"{type(exc).__name__}: {exc}"
        raise UnsupportedArchitectureError(
            f"the model does not run on this device ({said}); if mlx_lm.generate runs it here, please report it"
        ) from exc
    return logits


def _layer_spec(cache: Any) -> LayerSpec:
    if isinstance(cache, ArraysCache):
        arrays = [array for _, array in tree_flatten(cache.state) if isinstance(array, mx.array)]
        return LayerSpec.recurrent(sum(array.nbytes for array in arrays))
    keys, values = getattr(cache, "keys", None), getattr(cache, "values", None)
    if not isinstance(keys, mx.array) or not isinstance(values, mx.array):
        raise UnsupportedArchitectureError(
            f"a layer keeps its context in a {type(cache).__name__}, a kind of cache that is not served; "
            "please report the model"
        )
    heads, key_dim, value_dim = keys.shape[1], keys.shape[-1], values.shape[-1]
    if isinstance(cache, RotatingKVCache):
        return LayerSpec.sliding(cache.max_size, heads, key_dim, value_dim)
    if isinstance(cache, ChunkedKVCache):
        return LayerSpec.sliding(cache.chunk_size, heads, key_dim, value_dim)
    if heads == 1 and not (key_dim and value_dim):  # keys of an index, which has no values
        return LayerSpec.latent(key_dim, value_dim)
    return LayerSpec.full(heads, key_dim, value_dim)
