"""Values in few bits: each head's vector is rotated, then coded with one scale for a group.

The rotation is a Hadamard matrix. It spreads what stands out in single channels over all of a group, whose numbers
are then spread like a normal distribution: a group spans less, and is as wide below zero as above, so it needs no
offset. The scale stays the token's own: tokens that many others attend to have small values, and a scale shared with
their neighbours would drown them.
"""

from functools import cache

import numpy as np

from semantic.adapters.quantisation.key_code import Arrays, Floats
from semantic.adapters.quantisation.packing import pack, unpack

_SPAN_OF_FEW = 0.95
"""Of the largest number in a group, what fewer than 16 levels span: finer steps are worth more than its own error."""

_LARGEST_ROTATION = 128


class ValueCode:
    """Codes of ``levels`` levels for values ``[heads, tokens, dim]``; groups of ``group`` channels."""

    def __init__(self, levels: int, group: int) -> None:
        self._levels, self._group = levels, group
        self._rotation = hadamard(min(group & -group, _LARGEST_ROTATION))
        self._zero = levels // 2
        span = _SPAN_OF_FEW if levels < 16 else 1.0
        self._step = np.float32(span / ((levels - 1) / 2))

    def encode(self, values: Floats) -> Arrays:
        """``codes``, and for each head, token and group its ``scales``."""
        rotated = self._rotate(values).reshape(*values.shape[:2], -1, self._group)
        largest = np.maximum(rotated.max(axis=-1), -rotated.min(axis=-1))
        scales = (largest * self._step).astype(np.float16)
        steps = scales.astype(np.float32)
        rotated *= np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)[..., None]
        np.rint(rotated, out=rotated)
        rotated += self._zero
        codes = np.clip(rotated, 0, self._levels - 1, out=rotated).astype(np.uint8)
        return {"codes": pack(codes.reshape(-1), self._levels), "scales": scales}

    def decode(self, arrays: Arrays, values: Floats) -> None:
        """Write what was encoded into ``values``, which may be a view.

        The codes are rotated as they are, not from zero on: a constant rotates into the first channel alone.
        """
        codes = unpack(arrays["codes"], self._levels, values.size)
        rotated = self._rotate(codes.astype(np.float32))  # the matrix is its own inverse
        rotated[:, 0] -= self._zero * np.float32(np.sqrt(len(self._rotation)))
        scales = np.repeat(arrays["scales"].astype(np.float32), self._group // len(self._rotation), axis=-1)
        turned = rotated.reshape(*values.shape[:2], -1, len(self._rotation))
        np.multiply(turned, scales[..., None], out=turned)
        values[:] = turned.reshape(values.shape)

    def _rotate(self, numbers: Floats) -> Floats:
        return numbers.reshape(-1, len(self._rotation)) @ self._rotation


@cache
def hadamard(size: int) -> Floats:
    """Sylvester's matrix, scaled to be orthogonal; it is symmetric. ``size`` is a power of two."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    matrix /= np.float32(np.sqrt(size))
    matrix.flags.writeable = False
    return matrix
