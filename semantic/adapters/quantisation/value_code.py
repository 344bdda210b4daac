"""Values in few bits: each head's vector is rotated, then coded with one scale for a group.

The rotation is a Hadamard matrix. It spreads what stands out in single channels over all of a group, whose numbers
are then spread like a normal distribution: a group spans less, and is as wide below zero as above, so it needs no
offset. The scale stays the token's own: tokens that many others attend to have small values, and a scale shared with
their neighbours would drown them.

To rotate back is most of the work of decoding. A Hadamard matrix is made of four of half its size, one of them
negative: the halves of all vectors lie one behind the other, are added and subtracted as integers, and each is then
rotated by the smaller matrix.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from semantic.adapters.quantisation.key_code import Arrays, Floats, stacked
from semantic.adapters.quantisation.packing import pack, unpack

_SPAN_OF_FEW = 0.95
"""Of the largest number in a group, what fewer than 16 levels span: finer steps are worth more than its own error."""

_LARGEST_ROTATION = 128


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
        """``codes``, and for each head, token and group its ``scales``."""
        rotated = values.reshape(-1, len(self._rotation)) @ self._rotation
        rotated = rotated.reshape(*values.shape[:2], -1, self._group)
        largest = np.maximum(rotated.max(axis=-1), -rotated.min(axis=-1))
        scales = (largest * self._step).astype(np.float16)
        steps = scales.astype(np.float32)
        rotated *= np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)[..., None]
        np.rint(rotated, out=rotated)
        rotated += self._zero
        codes = np.clip(rotated, 0, self._levels - 1, out=rotated).astype(np.uint8)
        halves = np.moveaxis(codes.reshape(-1, 2, len(self._half)), 1, 0)
        return {"codes": pack(halves.reshape(-1), self._levels), "scales": scales}

    def decode(self, arrays: Sequence[Arrays], values: Sequence[Floats]) -> None:
        """Write what was encoded into ``values``, which may be views; all are of one shape.

        The matrix is its own inverse.
        """
        layers, half = len(values), len(self._half)
        codes = unpack(stacked(arrays, "codes"), self._levels, values[0].size).reshape(layers, 2, -1)
        sums = np.empty(codes.shape, self._sums)
        np.add(codes[:, 0], codes[:, 1], out=sums[:, 0], dtype=self._sums)
        np.subtract(codes[:, 0], codes[:, 1], out=sums[:, 1], dtype=self._sums)
        sums[:, 0] -= 2 * self._zero
        numbers = sums.astype(np.float32).reshape(layers, 2, -1, half)
        rotated = np.empty((layers, numbers.shape[2], 2, half), np.float32)
        np.matmul(numbers, self._half, out=rotated.swapaxes(1, 2))
        pieces = *values[0].shape[:2], -1, self._group // len(self._rotation), len(self._rotation)
        scales = stacked(arrays, "scales").astype(np.float32)[..., None, None]
        for n, layer in enumerate(values):
            np.multiply(rotated[n].reshape(pieces), scales[n], out=layer.reshape(pieces))


@cache
def hadamard(size: int) -> Floats:
    """Sylvester's matrix, scaled to be orthogonal; it is symmetric. ``size`` is a power of two."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    matrix /= np.float32(np.sqrt(size))
    matrix.flags.writeable = False
    return matrix
