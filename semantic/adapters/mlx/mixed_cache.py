"""Keys in one number of bits and values in another: mlx_lm's ``QuantizedKVCache`` has one for both."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import QuantizedKVCache

Parts = tuple[mx.array, ...]
"""Packed codes, and a scale and a bias for every group; each ``[1, kv_heads, tokens, ...]``."""


class MixedQuantizedKVCache(QuantizedKVCache):  # type: ignore[misc]
    """A cache for ``mlx_lm.generate_step``, which the engine's output with ``kv_bits="8/4"`` is held against.

    mlx_lm's quantised attention reads keys and values with one and the same number of bits, and calls it ``bits``. This
    cache has no such attribute and gives what its codes stand for, so that plain attention reads it.
    """

    def __init__(self, group_size: int, key_bits: int, value_bits: int) -> None:
        self.keys: Parts | None = None
        self.values: Parts | None = None
        self.offset = 0
        self.group_size, self.key_bits, self.value_bits = group_size, key_bits, value_bits

    def append(self, keys: mx.array, values: mx.array) -> None:
        """Quantise new tokens, ``[1, kv_heads, n, head_dim]``, behind those that are there."""
        start, self.offset = self.offset, self.offset + keys.shape[2]
        self.keys = self._with(self.keys, keys, self.key_bits, start)
        self.values = self._with(self.values, values, self.value_bits, start)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append, and return what all codes stand for."""
        self.append(keys, values)
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """What all codes stand for."""
        keys, values = super().keys_and_values()
        return dequantised(keys, self.group_size, self.key_bits), dequantised(values, self.group_size, self.value_bits)

    @property
    def state(self) -> tuple[Any, ...]:
        """All that makes it up."""
        return self.keys, self.values, self.offset, self.group_size, self.key_bits, self.value_bits

    @state.setter
    def state(self, state: tuple[Any, ...]) -> None:
        self.keys, self.values, self.offset, self.group_size, self.key_bits, self.value_bits = state

    def _with(self, held: Parts | None, new: mx.array, bits: int, start: int) -> Parts:
        """The parts with new tokens from ``start`` on; grown by whole steps where there is no room."""
        quantised: Any = mx.quantize(new, group_size=self.group_size, bits=bits)
        missing = start + new.shape[2] - (0 if held is None else held[0].shape[2])
        if missing > 0:
            steps = -(-new.shape[2] // self.step) * self.step
            room = tuple(mx.zeros((*part.shape[:2], steps, part.shape[3]), part.dtype) for part in quantised)
            held = room if held is None else tuple(map(partial(_longer, start), held, room))
        assert held is not None
        for part, of_new in zip(held, quantised, strict=True):
            part[..., start : self.offset, :] = of_new
        return held


def _longer(tokens: int, part: mx.array, room: mx.array) -> mx.array:
    return mx.concatenate([part[..., :tokens, :], room], axis=2)


def dequantised(parts: Sequence[mx.array], group_size: int, bits: int) -> mx.array:
    """What codes, scales and biases stand for."""
    codes, scales, biases = parts
    return mx.dequantize(codes, scales, biases, group_size=group_size, bits=bits)


def bits_of(cache: Any) -> tuple[int, int]:
    """The bits of a quantised cache's keys, and of its values."""
    return (cache.key_bits, cache.value_bits) if type(cache) is MixedQuantizedKVCache else (cache.bits, cache.bits)


def make_quantised_cache(group_size: int, key_bits: int, value_bits: int) -> Any:
    """mlx_lm's own where it has one."""
    if key_bits == value_bits:
        return QuantizedKVCache(group_size=group_size, bits=key_bits)
    return MixedQuantizedKVCache(group_size, key_bits, value_bits)


QUANTISED_KINDS = (QuantizedKVCache, MixedQuantizedKVCache)
