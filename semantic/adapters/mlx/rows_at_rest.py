"""Keys and values of a sealed block, quantised: into a block's arrays and back."""

from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import groupby
from typing import Protocol

import numpy as np

from semantic.adapters.mlx.host_block import HostBlock, expect
from semantic.adapters.mlx.page_arena import Array
from semantic.adapters.quantisation.key_code import Arrays
from semantic.adapters.quantisation.kv_codec import Portion, Shapes
from semantic.application.ports.block_store import TensorHeader
from semantic.domain.value_objects import LayerKind, LayerSpec, ModelCacheSpec

_NAMES = {"float16": "F16", "uint8": "U8", "uint32": "U32", "float32": "F32"}


LayerRows = tuple[int, Array, Array]
"""A layer's number, and its keys and values ``[kv_heads, tokens, head_dim]``."""


class RowCodec(Protocol):
    """One layer's rows of a block, ``[kv_heads, tokens, head_dim]``, as named arrays and back."""

    def encode(self, keys: Array, values: Array) -> Arrays:
        """Raises ``OverflowError`` for numbers that it can't hold."""

    def decode(self, portions: Iterable[Portion]) -> None:
        """Write what was encoded into each layer's keys and values, which may be views."""

    def shapes(self, heads: int, tokens: int, key_dim: int, value_dim: int) -> Shapes:
        """dtype and shape of every array that :meth:`encode` gives, in its order."""

    def layer_bytes(self, layer: LayerSpec, tokens: int) -> int:
        """Bytes of one layer's part of a block of so many tokens."""


class RowsAtRest:
    """The layers of ``spec`` that keep a row for each token. One whose numbers 16-bit scales can't hold stays exact."""

    def __init__(self, spec: ModelCacheSpec, codec: RowCodec) -> None:
        self._codec = codec
        self._layers = {i: layer for i, layer in enumerate(spec.layers) if layer.kind is LayerKind.FULL}
        self.check = lru_cache(maxsize=16)(self._check)
        """Raise ``BlockDamagedError`` unless these headers, a tuple, are those of so many tokens' arrays."""

    def nbytes(self, num_tokens: int) -> int:
        """Bytes that so many tokens take."""
        return sum(self._codec.layer_bytes(layer, num_tokens) for layer in self._layers.values())

    def put(self, block: HostBlock, index: int, keys: Array, values: Array) -> None:
        """Quantise one layer's rows, ``[kv_heads, tokens, head_dim]``, into a block."""
        try:
            arrays = self._codec.encode(keys, values)
        except OverflowError:
            arrays = {"keys": np.array(keys, np.float32), "values": np.array(values, np.float32)}
        for name, array in arrays.items():
            block.put(f"layers.{index}.{name}", _NAMES[str(array.dtype)], array)

    def get(self, parts: Iterable[tuple[HostBlock, Iterable[LayerRows]]]) -> None:
        """Write rows, all that each block has of these layers, into keys and values, which may be views."""
        self._codec.decode(portion for part in parts for portion in self._portions(*part))

    def _portions(self, block: HostBlock, layers: Iterable[LayerRows]) -> Iterator[Portion]:
        """What is left to decode of these layers once those that were kept exact are written."""
        for (is_exact, *_), same in groupby(enumerate(layers), partial(_kind, block)):
            indices, keys, values = zip(*(rows for _, rows in same), strict=True)
            arrays = block.of_layers(range(indices[0], indices[-1] + 1))
            if is_exact:
                for here, there in zip((*keys, *values), (*arrays["keys"], *arrays["values"]), strict=True):
                    here[:] = there
            else:
                yield Portion(arrays, keys, values)

    def _check(self, headers: tuple[TensorHeader, ...], num_tokens: int) -> None:
        """States are passed over. Most blocks have the same arrays, so one that was right need not be looked at."""
        rows = [header for header in headers if ".state" not in header.name]
        names = {header.name for header in rows}
        expected = [
            header
            for i, layer in self._layers.items()
            for header in self._headers(i, layer, num_tokens, exact=f"layers.{i}.keys" in names)
        ]
        expect(rows, expected)

    def _headers(self, index: int, layer: LayerSpec, tokens: int, *, exact: bool) -> Iterator[TensorHeader]:
        heads, key_dim, value_dim = layer.kv_heads, layer.key_head_dim, layer.value_head_dim
        shapes = self._codec.shapes(heads, tokens, key_dim, value_dim)
        if exact:
            shapes = {"keys": ("float32", (heads, tokens, key_dim)), "values": ("float32", (heads, tokens, value_dim))}
        for name, (dtype, shape) in shapes.items():
            yield TensorHeader(f"layers.{index}.{name}", _NAMES[dtype], shape)


def _kind(block: HostBlock, numbered: tuple[int, LayerRows]) -> tuple[bool, int, tuple[int, ...], tuple[int, ...]]:
    """Equal for layers that follow one another and have arrays of the same shapes."""
    number, (index, keys, values) = numbered
    return f"layers.{index}.keys" in block, index - number, keys.shape, values.shape
