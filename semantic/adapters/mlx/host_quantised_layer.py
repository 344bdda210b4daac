"""Rows on quantised caches, attended to in numpy: on the CPU MLX's product with codes is four times slower.

In a decode step codes are multiplied as they are. A scale and a bias belong to a token's group, so they come out of the
product: ``q @ (s * code + b)`` is ``s * (q @ code) + b * sum(q)``, and what is unpacked are the codes alone. New tokens
are quantised by MLX, all rows at once, and written into the caches' own arrays through views: a slice update for every
row and part costs more than that.

A prefill chunk has many queries for each key, so there all codes are expanded first, once for the chunk and the layer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from semantic.adapters.mlx.attention_seam import Attention, AttentionNotServedError, handed_out
from semantic.adapters.mlx.mixed_cache import MixedQuantizedKVCache, bits_of
from semantic.adapters.mlx.paged_attention import PagedAttention
from semantic.adapters.mlx.stacked_layer import RowMasks, StackedLayer
from semantic.adapters.mlx.team import Team
from semantic.domain.value_objects import KVPrecision

Array = npt.NDArray[Any]

KERNEL = "quantised attention on the host 2"
"""Goes up when this attention changes the bits it gives."""

_TILE_TOKENS = 256


class HostQuantisedLayer(StackedLayer):
    """A :class:`StackedLayer` over quantised caches that compute in float32; the team shares the work out.

    A single sequence may also come with a whole prefill chunk.
    """

    def __init__(self, caches: Sequence[Any], team: Team) -> None:
        super().__init__(caches)
        self._team = team
        self._bits, self._group_size = bits_of(caches[0]), caches[0].group_size
        self._unwritten: tuple[Any, ...] = ()

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Keep the new tokens until :meth:`attend` writes them; a cache that is full has to grow first."""
        self.drop()
        self._new, self._attended = (keys, values), False
        if keys.shape[2] == 1 and all(map(_has_room, self._caches)):
            new = [
                mx.quantize(each, group_size=self._group_size, bits=bits)
                for each, bits in zip((keys, values), self._bits, strict=True)
            ]
            self._unwritten = (*new[0], *new[1])
        else:
            for i, cache in enumerate(self._caches):
                _append(cache, keys[i : i + 1], values[i : i + 1])
        self.offset = self.offset + keys.shape[2]
        handed_out.add(keys, self)
        return keys, values

    def make_mask(self, n: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """Of a chunk, causal order and nothing else."""
        if n == 1 or len(self._caches) > 1:
            return super().make_mask(n, return_array, window_size)
        if return_array or window_size is not None:
            raise AttentionNotServedError("chunks on quantised caches see all that is before them")
        return "causal"

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, original: Attention, **how: Any) -> mx.array:
        """A decode step's rows as :class:`StackedLayer` does; a chunk on all codes, expanded."""
        if queries.shape[2] == 1:
            return super().attend(queries, keys, values, original, **how)
        self._require_own(keys, values)
        if how.get("mask") != "causal" or how.get("sinks") is not None or len(self._caches) > 1:
            raise AttentionNotServedError("chunks on quantised caches compute plain causal attention, without sinks")
        self._attended = True
        [cache] = self._caches
        mx.eval(queries, cache.keys, cache.values)
        return mx.array(self._chunk(np.array(queries, copy=False)[0], cache, how["scale"])[None])

    def _chunk(self, queries: Array, cache: Any, scale: float) -> Array:
        """Causal attention of ``[heads, n, head_dim]`` queries, which are those of the cache's last tokens."""
        key_bits, value_bits = self._bits
        parts = self._written()[0]
        keys, values = expanded(Quantised(*parts[:3]), key_bits), expanded(Quantised(*parts[3:]), value_bits)
        heads, n, _ = queries.shape
        output = np.empty((heads, n, values.shape[-1]), np.float32)
        pages = range(-(-cache.offset // _TILE_TOKENS))
        attention = PagedAttention(self._team)
        attention.prefill(queries, keys, values, pages, _TILE_TOKENS, cache.offset - n, scale, output)
        return output

    def drop(self) -> None:
        """Forget what was fetched, and what was not written."""
        super().drop()
        self._unwritten = ()

    def _attend_rows(
        self, queries: mx.array, mask: RowMasks | None, original: Attention, how: dict[str, Any]
    ) -> mx.array:
        mx.eval(queries, self._unwritten, [(cache.keys, cache.values) for cache in self._caches])
        held = self._written()
        if mask is not None or how.get("sinks") is not None:
            self._fetched = [cache.keys_and_values() for cache in self._caches]  # as the model's attention reads them
            return super()._attend_rows(queries, mask, original, how)
        rows = np.array(queries, copy=False)[:, :, 0] * np.float32(how["scale"])
        outputs: list[Array] = [rows] * len(rows)
        numbered = iter(enumerate(held))

        def work() -> None:
            for i, parts in numbered:
                outputs[i] = attend(rows[i], Quantised(*parts[:3]), Quantised(*parts[3:]), *self._bits)

        self._team.run(work)
        return mx.array(np.stack(outputs)[:, :, None])

    def _written(self) -> list[list[Array]]:
        """Views of what each cache holds, keys' parts before values', the new tokens among them."""
        new = [np.array(part, copy=False) for part in self._unwritten]
        self._unwritten = ()
        held = []
        for i, cache in enumerate(self._caches):
            parts = [np.array(part, copy=False)[0] for part in (*cache.keys, *cache.values)]
            if new:
                for part, of_all in zip(parts, new, strict=True):
                    part[:, cache.offset] = of_all[i, :, 0]
                cache.offset += 1
            held.append([part[:, : cache.offset] for part in parts])
        return held


def _append(cache: Any, keys: mx.array, values: mx.array) -> None:
    """Quantise new tokens into a cache, which grows."""
    if type(cache) is MixedQuantizedKVCache:
        cache.append(keys, values)
    else:
        cache.update_and_fetch(keys, values)


def _has_room(cache: Any) -> bool:
    return cache.keys is not None and cache.offset < cache.keys[0].shape[2]


def attends_on_host(precision: KVPrecision) -> bool:
    """Whether rows of this precision, if they share a forward, are attended to here."""
    return precision.is_quantised and precision.dtype == "float32" and mx.default_device() == mx.Device(mx.cpu)


class Quantised(NamedTuple):
    """Keys or values: ``codes`` packed in words, ``scales`` and ``biases``; each ``[kv_heads, tokens, ...]``."""

    codes: Array
    scales: Array
    biases: Array


def attend(queries: Array, keys: Quantised, values: Quantised, key_bits: int, value_bits: int) -> Array:
    """Attention of one token's scaled queries ``[heads, head_dim]`` on all that is held, ``[heads, value_dim]``."""
    kv_heads = len(keys.codes)
    rows = queries.reshape(kv_heads, len(queries) // kv_heads, -1)
    scores = _scores(rows, keys, key_bits)
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return _mixed(scores, values, value_bits).reshape(len(queries), -1)


def expanded(held: Quantised, bits: int) -> Array:
    """What the codes stand for, ``[kv_heads, tokens, dim]``."""
    planes, groups = _planes(held.codes, bits), held.scales.shape[-1]
    dim = planes[0].shape[-1] * len(planes)
    numbers = np.empty((*held.codes.shape[:2], dim), np.float32)
    for group, (of_row, of_plane) in enumerate(_spans(dim, groups, len(planes))):
        for i, plane in enumerate(planes):
            own = numbers[..., of_row][..., i :: len(planes)]
            np.multiply(plane[..., of_plane], held.scales[..., group, None], out=own)
            own += held.biases[..., group, None]
    return numbers


def _scores(rows: Array, keys: Quantised, bits: int) -> Array:
    planes, groups = _planes(keys.codes, bits), keys.scales.shape[-1]
    scores = np.zeros((*rows.shape[:2], keys.codes.shape[1]), np.float32)
    for group, (of_row, of_plane) in enumerate(_spans(rows.shape[-1], groups, len(planes))):
        own = rows[..., of_row]
        part = sum(own[..., i :: len(planes)] @ plane[..., of_plane].swapaxes(1, 2) for i, plane in enumerate(planes))
        part *= keys.scales[:, None, :, group]
        scores += part
        scores += own.sum(-1, keepdims=True) * keys.biases[:, None, :, group]
    return scores


def _mixed(weights: Array, values: Quantised, bits: int) -> Array:
    planes, groups = _planes(values.codes, bits), values.scales.shape[-1]
    dim = planes[0].shape[-1] * len(planes)
    mixed = np.empty((*weights.shape[:2], dim), np.float32)
    for group, (of_row, of_plane) in enumerate(_spans(dim, groups, len(planes))):
        scaled = weights * values.scales[:, None, :, group]
        bias = weights @ values.biases[:, :, group, None]
        for i, plane in enumerate(planes):
            mixed[..., of_row][..., i :: len(planes)] = scaled @ plane[..., of_plane] + bias
    return mixed


def _planes(codes: Array, bits: int) -> list[Array]:
    """The codes as numbers. Of 4 bits each, those of even elements and those of odd ones."""
    octets = codes.view(np.uint8)
    if bits == 8:
        return [octets.astype(np.float32)]
    return [(octets & 15).astype(np.float32), (octets >> 4).astype(np.float32)]


def _spans(dim: int, groups: int, planes: int) -> list[tuple[slice, slice]]:
    """Each group's elements, in a vector and in a plane."""
    size = dim // groups
    return [
        (slice(i * size, (i + 1) * size), slice(i * size // planes, (i + 1) * size // planes)) for i in range(groups)
    ]
