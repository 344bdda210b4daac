"""Layers whose keys and values are quantised in compute: mlx_lm's ``QuantizedKVCache`` from the first token on.

What they give is what ``mlx_lm.generate_step`` gives with such a ``prompt_cache``. mlx_lm's own switch is another one:
its ``kv_bits`` quantises what a cache holds when a prefill chunk ends behind ``quantized_kv_start`` (5,000 tokens), so
that what it says depends on the size of the chunks.

Rounding makes large what differs in the last bit. In SmolLM2 at 4 bits a change of 1e-6 in one layer's norm moves stock
mlx_lm's log-probabilities by 1 to 2: its tokens are then those of the bit lane, which repeats its operations, alone.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from attrs import evolve
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, make_prompt_cache

from semantic.adapters.mlx.cache_probe import flatten_caches
from semantic.adapters.mlx.mixed_cache import bits_of, dequantised, make_quantised_cache
from semantic.domain.errors import UnsupportedPrecisionError
from semantic.domain.value_objects import KVPrecision, LayerKind, ModelCacheSpec

_WHAT_WORKS = "leave kv_bits out to keep its caches exact"
_AT_REST = f"{_WHAT_WORKS}; kv_at_rest quantises what is kept of them"


def make_layers(model: nn.Module, precision: KVPrecision) -> list[Any]:
    """One sequence's caches: the model's own, full attention quantised if ``precision`` is. States stay as they are."""
    caches: list[Any] = make_prompt_cache(model)
    return [_quantised(cache, precision) for cache in caches] if precision.is_quantised else caches


def quantised_spec(
    model: nn.Module, spec: ModelCacheSpec, bits: int, group_size: int, value_bits: int | None = None
) -> ModelCacheSpec:
    """``spec`` with keys and values in ``bits``, scales and biases in the dtype that the model computes in.

    ``value_bits``: those of values where they differ.

    Raises :class:`UnsupportedPrecisionError` if a layer can't be quantised.
    """
    require_quantisable(list(flatten_caches(make_prompt_cache(model))))
    _require_whole_groups(spec, group_size)
    precision = evolve(spec.precision, bits=bits, value_bits=value_bits, group_size=group_size)
    _require_attention(model, precision)
    return evolve(spec, precision=precision)


def require_quantisable(caches: list[Any]) -> None:
    """Raise :class:`UnsupportedPrecisionError` unless these are full attention, or that beside recurrent state."""
    for cache in caches:
        if type(cache) is not KVCache and not isinstance(cache, ArraysCache):
            raise UnsupportedPrecisionError(
                f"kv_bits quantises full attention, and a layer of this model keeps its keys in a "
                f"{type(cache).__name__}, which mlx_lm can't quantise; {_AT_REST}"
            )
    if not any(type(cache) is KVCache for cache in caches):
        raise UnsupportedPrecisionError(
            f"kv_bits has nothing to quantise: this model keeps recurrent state and no keys or values; {_WHAT_WORKS}"
        )


def lengthen(cache: Any, past_like: Callable[[mx.array], mx.array]) -> None:
    """Put a past before what the cache holds. ``past_like`` makes up keys, or values, like those that it is given."""
    for side, bits in zip(("keys", "values"), bits_of(cache), strict=True):
        held = [part[..., : cache.offset, :] for part in getattr(cache, side)]
        past = past_like(dequantised(held, cache.group_size, bits))
        invented = mx.quantize(past, group_size=cache.group_size, bits=bits)
        setattr(cache, side, tuple(mx.concatenate(list(pair), axis=2) for pair in zip(invented, held, strict=True)))
    cache.offset += past.shape[2]


def _quantised(cache: Any, precision: KVPrecision) -> Any:
    if isinstance(cache, CacheList):
        return CacheList(*(_quantised(inner, precision) for inner in cache.caches))
    if type(cache) is KVCache:
        key_bits, value_bits = precision.bits_of_sides
        assert key_bits is not None
        assert value_bits is not None
        return make_quantised_cache(precision.group_size, key_bits, value_bits)
    return cache


def _require_whole_groups(spec: ModelCacheSpec, group_size: int) -> None:
    dims = {
        dim
        for layer in spec.layers
        if layer.kind is not LayerKind.RECURRENT
        for dim in (layer.key_head_dim, layer.value_head_dim)
    }
    check_group_size(sorted(dims), group_size)


def check_group_size(dims: list[int], group_size: int) -> None:
    """Raise :class:`UnsupportedPrecisionError` unless vectors of all these widths fall into whole groups."""
    if all(dim % group_size == 0 for dim in dims):
        return
    possible = [size for size in (128, 64, 32) if all(dim % size == 0 for dim in dims)]
    advice = f"kv_group_size={possible[0]} would work" if possible else f"no group size does; {_WHAT_WORKS}"
    widths = ", ".join(map(str, dims))
    raise UnsupportedPrecisionError(
        f"kv_group_size {group_size} does not divide the model's head dimensions ({widths}); {advice}"
    )


def _require_attention(model: nn.Module, precision: KVPrecision) -> None:
    """Let the model read its own quantised caches. All is computed: nothing lazy stays behind in the model."""
    try:
        mx.eval(model(mx.zeros((1, 2), mx.uint32), cache=make_layers(model, precision)))
    except Exception as exc:
        raise UnsupportedPrecisionError(
            f"this model's attention can't read quantised keys and values ({type(exc).__name__}: {exc}); {_AT_REST}"
        ) from exc
