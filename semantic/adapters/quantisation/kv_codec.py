"""One layer's part of a sealed block, as few bits and back."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from semantic.adapters.quantisation.key_code import Arrays, Floats, KeyCode
from semantic.adapters.quantisation.scratch import Scratches
from semantic.adapters.quantisation.value_code import ValueCode
from semantic.domain.value_objects import LayerSpec, RestPrecision
from semantic.domain.value_objects.rest_precision import packed_bytes

Shapes = dict[str, tuple[str, tuple[int, ...]]]


class Portion(NamedTuple):
    """Layers that are decoded at once. ``arrays``, by name, are ``[layers, ...]``.

    ``keys`` and ``values`` are what each layer is decoded into, ``[heads, tokens, dim]``; they may be views.
    """

    arrays: Arrays
    keys: Sequence[Floats]
    values: Sequence[Floats]


_LARGEST = 2.0**14
"""Rotated, numbers up to here have scales that 16-bit floats hold."""


class KVCodec:
    """Quantises keys and values as ``precision`` says. The same input gives the same bytes.

    Threads may share one codec. ADR 0013 says why keys and values are coded so differently.
    """

    def __init__(self, precision: RestPrecision) -> None:
        self.precision = precision
        self._keys = KeyCode(precision.key_levels, precision.key_group)
        self._values = ValueCode(precision.value_levels, precision.value_group)
        self._scratches = Scratches()

    def encode(self, keys: Floats, values: Floats) -> Arrays:
        """The arrays of keys ``[heads, tokens, key_dim]`` and values ``[heads, tokens, value_dim]``, by name.

        Any number of tokens from 1 on. Either width may be 0, as some latent layers have it. Raises
        :class:`InvalidSpecError` for widths that can't be stored, and ``OverflowError`` for numbers
        that it can't hold (:meth:`holds`).
        """
        self.precision.check(keys.shape[2], values.shape[2])
        if not (self.holds(keys) and self.holds(values)):
            raise OverflowError(f"keys or values are beyond {_LARGEST:g} or not numbers; keep this block as it is")
        of_keys = self._keys.encode(keys) if keys.size else {}
        of_values = self._values.encode(values) if values.size else {}
        return {**of_keys, **of_values}

    def decode(self, portions: Iterable[Portion]) -> None:
        """Write what was encoded into each layer's keys and values.

        The larger the portions, the better do threads get on: numpy lets others run at each of its calls, and where
        calls are short, they wait for each other. Two that decode layer by layer take as long as one.
        """
        with self._scratches.one() as scratch:
            for arrays, keys, values in portions:
                if math.prod(keys[0].shape):
                    self._keys.decode(arrays, keys, scratch)
                if math.prod(values[0].shape):
                    self._values.decode(arrays, values, scratch)

    def layer_bytes(self, layer: LayerSpec, tokens: int) -> int:
        """Bytes of one layer's part of a block of ``tokens`` tokens, as they will be."""
        return self.precision.layer_bytes(layer, tokens)

    def shapes(self, heads: int, tokens: int, key_dim: int, value_dim: int) -> Shapes:
        """dtype and shape of every array that :meth:`encode` would give, in its order."""
        precision = self.precision
        precision.check(key_dim, value_dim)
        found: Shapes = {}
        if key_dim:
            per_channel = heads, precision.key_groups(tokens), key_dim
            found["keys.first"] = "float16", (heads, 1, key_dim)
            found["keys.codes"] = "uint8", (packed_bytes(precision.key_levels, heads * (tokens - 1) * key_dim),)
            found["keys.scales"] = found["keys.offsets"] = "float16", per_channel
        if value_dim:
            found["values.codes"] = "uint8", (packed_bytes(precision.value_levels, heads * tokens * value_dim),)
            found["values.scales"] = "float16", (heads, tokens, value_dim // precision.value_group)
        return found

    @staticmethod
    def holds(numbers: Floats) -> bool:
        """Whether all numbers are finite and small enough."""
        return not numbers.size or bool(max(numbers.max(), -numbers.min()) <= _LARGEST)
