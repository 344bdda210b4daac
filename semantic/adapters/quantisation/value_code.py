"""Values in few bits: each head's vector is rotated, then coded with one scale for a group.

The rotation is a Hadamard matrix. It spreads what stands out in single channels over all of a group, whose numbers
are then spread like a normal distribution: a group spans less, and is as wide below zero as above, so it needs no
offset. The scale stays the token's own: tokens that many others attend to have small values, and a scale shared with
their neighbours would drown them.

To rotate back is most of the work of decoding. A Hadamard matrix is made of four of half its size, one of them
negative: the halves of all vectors lie one behind the other, are added and subtracted as integers, and each is then
rotated by the smaller matrix. One channel of all vectors lies behind another: what is done to whole vectors, such as
to scale them, then goes along the memory, and a matrix product reads either way.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from semantic.adapters.quantisation.key_code import Arrays, Floats, Halves
from semantic.adapters.quantisation.packing import pack, unpack
from semantic.adapters.quantisation.scratch import Scratch

_SPAN_OF_FEW = 0.95
"""Of the largest number in a group, what fewer than 16 levels span: finer steps are worth more than its own error."""

_LARGEST_ROTATION = 128

_STORED = (3, 4, 2, 0, 1)
"""``[heads, tokens, vectors, halves, channels]`` as stored: of each half, one channel of all vectors after another."""


class ValueCode:
    """Codes of ``levels`` levels for values ``[heads, tokens, dim]``; groups of ``group`` channels."""

    def __init__(self, levels: int, group: int) -> None:
        self._levels, self._group = levels, group
        self._rotation = hadamard(min(group & -group, _LARGEST_ROTATION))
        self._half = self._rotation[: len(self._rotation) // 2, : len(self._rotation) // 2]
        self._sums = np.int8 if 2 * levels < 128 else np.int16
        self._zero = levels // 2
        span = _SPAN_OF_FEW if levels < 16 else 1.0
        self._step = np.float32(span / ((levels - 1) / 2))

    def encode(self, values: Floats) -> Arrays:
        """The codes, and for each head, token and group its scale."""
        rotated = values.reshape(-1, len(self._rotation)) @ self._rotation
        rotated = rotated.reshape(*values.shape[:2], -1, self._group)
        largest = np.maximum(rotated.max(axis=-1), -rotated.min(axis=-1))
        scales = (largest * self._step).astype(np.float16)
        steps = scales.astype(np.float32)
        rotated *= np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)[..., None]
        np.rint(rotated, out=rotated)
        rotated += self._zero
        codes = np.clip(rotated, 0, self._levels - 1, out=rotated).astype(np.uint8)
        halves = codes.reshape(*values.shape[:2], -1, 2, len(self._half))
        packed = pack(halves.transpose(_STORED).reshape(-1), self._levels)
        return {"values.codes": packed, "values.scales": scales}

    def decode(self, arrays: Arrays, values: Sequence[Floats], scratch: Scratch) -> None:
        """Write what was encoded into each layer's ``values``, which may be views. Arrays are ``[layers, ...]``.

        The matrix is its own inverse.
        """
        layers, half = len(values), len(self._half)
        codes = unpack(arrays["values.codes"], self._levels, values[0].size, scratch).reshape(layers, 2, -1)
        sums = scratch.array("sums", codes.shape, self._sums)
        np.add(codes[:, 0], codes[:, 1], out=sums[:, 0], dtype=self._sums)
        np.subtract(codes[:, 0], codes[:, 1], out=sums[:, 1], dtype=self._sums)
        sums[:, 0] -= 2 * self._zero
        numbers = scratch.array("values", (layers, 2, half, codes.shape[-1] // half), np.float32)
        numbers[:] = sums.reshape(numbers.shape)
        numbers *= self._scales_of_vectors(arrays["values.scales"], scratch)[:, None, None]
        heads, tokens, _ = values[0].shape
        rotated = numbers.reshape(layers, 2, half, -1, heads, tokens)
        for layer, each in zip(values, rotated, strict=True):
            halves = layer.reshape(heads, tokens, -1, 2, half).transpose(2, 0, 3, 1, 4)
            np.matmul(each.transpose(2, 3, 0, 4, 1), self._half, out=halves)

    def _scales_of_vectors(self, scales: Halves, scratch: Scratch) -> Floats:
        """The scale of each vector that is rotated by itself, ``[layers, vectors]``, in the order of the codes."""
        scales = np.moveaxis(scales, -1, 1)
        layers, groups, heads, tokens = scales.shape
        of_group = self._group // len(self._rotation)
        repeated = scratch.array("scales of vectors", (layers, groups, of_group, heads, tokens), np.float32)
        repeated[:] = scales[:, :, None]
        return repeated.reshape(layers, -1)


@cache
def hadamard(size: int) -> Floats:
    """Sylvester's matrix, scaled to be orthogonal; it is symmetric. ``size`` is a power of two."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    matrix /= np.float32(np.sqrt(size))
    matrix.flags.writeable = False
    return matrix
