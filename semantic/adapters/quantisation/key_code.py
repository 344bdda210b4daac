"""Keys in few bits: one scale and one offset for each channel and run of tokens.

A channel of the keys has about the same value at all tokens, far from zero, so a group of one channel's values spans
less than a group of one token's. The first token of a block is kept in 16 bits and out of the groups: the first token
of a sequence, to which all others attend, has keys unlike any other, and would widen every group it is in.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semantic.adapters.quantisation.packing import Codes, pack, unpack

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Arrays = dict[str, npt.NDArray[Any]]


class KeyCode:
    """Codes of ``levels`` levels for keys ``[heads, tokens, dim]``; groups of ``group`` tokens."""

    def __init__(self, levels: int, group: int) -> None:
        self._levels, self._group = levels, group

    def encode(self, keys: Floats) -> Arrays:
        """``first`` token, ``codes``, and for each head, group and channel its ``scales`` and ``offsets``."""
        rest = keys[:, 1:]
        heads, tokens, dim = rest.shape
        groups = -(-tokens // self._group)
        codes = np.empty(rest.shape, np.uint8)
        scales, offsets = np.empty((2, heads, groups, dim), np.float16)
        for i, run in self._runs(tokens):
            scales[:, i], offsets[:, i] = self._range(rest[:, run])
            codes[:, run] = _rounded(rest[:, run], scales[:, i, None], offsets[:, i, None])
        first = keys[:, :1].astype(np.float16)
        return {"first": first, "codes": pack(codes.reshape(-1), self._levels), "scales": scales, "offsets": offsets}

    def decode(self, arrays: Sequence[Arrays], keys: Sequence[Floats]) -> None:
        """Write what was encoded into ``keys``, which may be views; all are of one shape."""
        heads, tokens, dim = keys[0].shape
        rest = heads, tokens - 1, dim
        codes = unpack(stacked(arrays, "codes"), self._levels, math.prod(rest)).reshape(len(keys), *rest)
        scales, offsets = (stacked(arrays, name).astype(np.float32) for name in ("scales", "offsets"))
        for n, layer in enumerate(keys):
            layer[:, :1] = arrays[n]["first"]
            for i, run in self._runs(tokens - 1):
                part = layer[:, 1:][:, run]
                np.multiply(codes[n, :, run], scales[n, :, i, None], out=part)
                part += offsets[n, :, i, None]

    def _runs(self, tokens: int) -> Iterator[tuple[int, slice]]:
        for i, start in enumerate(range(0, tokens, self._group)):
            yield i, slice(start, min(tokens, start + self._group))

    def _range(self, keys: Floats) -> tuple[Halves, Halves]:
        """Scale and offset, rounded outwards: the levels span all of the keys."""
        low, high = keys.min(axis=1), keys.max(axis=1)
        offsets = _rounded_down(low)
        return -_rounded_down((offsets.astype(np.float32) - high) / np.float32(self._levels - 1)), offsets


def stacked(arrays: Sequence[Arrays], name: str) -> npt.NDArray[Any]:
    """The array of this name of every layer, one behind the other."""
    return np.stack([each[name] for each in arrays])


def _rounded_down(numbers: Floats) -> Halves:
    halves = numbers.astype(np.float16)
    return np.where(halves > numbers, np.nextafter(halves, np.float16(-np.inf)), halves)


def _rounded(keys: Floats, scales: Halves, offsets: Halves) -> Codes:
    """The nearest levels' numbers. A scale of zero has nothing to tell apart."""
    steps = scales.astype(np.float32)
    inverse = np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)
    numbers = keys - offsets.astype(np.float32)
    numbers *= inverse
    return np.rint(numbers, out=numbers).astype(np.uint8)
