"""Keys and values rounded as mlx_lm's quantised caches round them, in sealed blocks: what ours is compared with."""

from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from semantic.adapters.mlx.page_arena import Array
from semantic.adapters.mlx.token_rows import QUANTISED_PARTS
from semantic.adapters.quantisation.key_code import Arrays
from semantic.adapters.quantisation.kv_codec import Portion, Shapes
from semantic.domain.errors import InvalidSpecError
from semantic.domain.value_objects import KVPrecision, LayerKind, LayerSpec, ModelCacheSpec

_BITS = 4
_GROUP_SIZES = (64, 32)
_WORD_BITS = 32


class PublishedCodec:
    """``mx.quantize``: 4 bits for each token's groups of channels, each with a scale and a bias of 16 bits.

    Raises :class:`InvalidSpecError` if the heads of ``spec`` fall into no groups of 64 or 32.
    """

    def __init__(self, spec: ModelCacheSpec) -> None:
        layers = [layer for layer in spec.layers if layer.kind is LayerKind.FULL]
        dims = {dim for layer in layers for dim in (layer.key_head_dim, layer.value_head_dim)}
        fitting = [size for size in _GROUP_SIZES if all(dim % size == 0 for dim in dims)]
        if not fitting or not layers:
            raise InvalidSpecError(
                f"mx.quantize has no group for heads of widths {sorted(dims)}; 32 has to divide them"
            )
        self._group_size = fitting[0]
        self._precision = KVPrecision(bits=_BITS, group_size=self._group_size, scale_dtype="float16")

    def encode(self, keys: Array, values: Array) -> Arrays:
        """Codes, scales and biases of keys and of values, ``[heads, tokens, head_dim]``, by name."""
        named = {}
        for side, numbers in (("keys", keys), ("values", values)):
            codes, *rest = mx.quantize(mx.array(numbers), group_size=self._group_size, bits=_BITS)
            scales, biases = (each.astype(mx.float16) for each in rest)
            for name, array in zip(QUANTISED_PARTS, (codes, scales, biases), strict=True):
                named[f"{side}.{name}"] = np.array(array)
        return named

    def decode(self, portions: Iterable[Portion]) -> None:
        """Write what was encoded into each layer's keys and values, which may be views."""
        for arrays, *decoded in portions:
            for side, layers in zip(("keys", "values"), decoded, strict=True):
                for i, numbers in enumerate(layers):
                    numbers[:] = self._dequantised(*(arrays[f"{side}.{name}"][i] for name in QUANTISED_PARTS))

    def _dequantised(self, *quantised: npt.NDArray[Any]) -> Array:
        codes, scales, biases = map(mx.array, quantised)
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
        return np.array(mx.dequantize(codes, scales, biases, group_size=self._group_size, bits=_BITS))

    def layer_bytes(self, layer: LayerSpec, tokens: int) -> int:
        """Bytes of one layer's part of a block of so many tokens."""
        return tokens * layer.bytes_per_token(self._precision)

    def shapes(self, heads: int, tokens: int, key_dim: int, value_dim: int) -> Shapes:
        """dtype and shape of every array that :meth:`encode` would give, in its order."""
        found: Shapes = {}
        for side, dim in (("keys", key_dim), ("values", value_dim)):
            found[f"{side}.codes"] = "uint32", (heads, tokens, dim * _BITS // _WORD_BITS)
            found[f"{side}.scales"] = found[f"{side}.biases"] = "float16", (heads, tokens, dim // self._group_size)
        return found
