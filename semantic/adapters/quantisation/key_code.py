"""Keys in few bits: one scale and one offset for each channel and run of tokens.

A channel of the keys has about the same value at all tokens, far from zero, so a group of one channel's values spans
less than a group of one token's. The first token of a block is kept in 16 bits and out of the groups: the first token
of a sequence, to which all others attend, has keys unlike any other, and would widen every group it is in.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semantic.adapters.quantisation.packing import Codes, pack, unpack
from semantic.adapters.quantisation.scratch import Scratch

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Arrays = Mapping[str, npt.NDArray[Any]]

_TOGETHER = 8
"""Tokens that are decoded as one row: numpy pays for every row."""


class KeyCode:
    """Codes of ``levels`` levels for keys ``[heads, tokens, dim]``; groups of ``group`` tokens."""

    def __init__(self, levels: int, group: int) -> None:
        self._levels, self._group = levels, group

    def encode(self, keys: Floats) -> Arrays:
        """The first token, codes, and for each head, group and channel its scale and offset."""
        rest = keys[:, 1:]
        heads, tokens, dim = rest.shape
        groups = -(-tokens // self._group)
        codes = np.empty(rest.shape, np.uint8)
        scales, offsets = np.empty((2, heads, groups, dim), np.float16)
        for i, run in self._runs(tokens):
            scales[:, i], offsets[:, i] = self._range(rest[:, run])
            codes[:, run] = _rounded(rest[:, run], scales[:, i, None], offsets[:, i, None])
        return {
            "keys.first": keys[:, :1].astype(np.float16),
            "keys.codes": pack(codes.reshape(-1), self._levels),
            "keys.scales": scales,
            "keys.offsets": offsets,
        }

    def decode(self, arrays: Arrays, keys: Sequence[Floats], scratch: Scratch) -> None:
        """Write what was encoded into each layer's ``keys``, which may be views. Arrays are ``[layers, ...]``."""
        heads, tokens, dim = keys[0].shape
        layers, rest = len(keys), (heads, tokens - 1, dim)
        codes = unpack(arrays["keys.codes"], self._levels, math.prod(rest), scratch)
        numbers = scratch.array("keys", (layers, *keys[0].shape), np.float32)
        numbers[:, :, :1] = arrays["keys.first"]
        numbers[:, :, 1:] = codes.reshape(layers, *rest)
        scales, offsets = (_of_long_rows(arrays[name], name, scratch) for name in ("keys.scales", "keys.offsets"))
        for i, run in self._runs(tokens - 1):
            for part, together in _long_rows(run):
                rows = numbers[:, :, 1:][:, :, part].reshape(layers, heads, -1, together * dim)
                rows *= scales[:, :, i, None, : together * dim]
                rows += offsets[:, :, i, None, : together * dim]
        for layer, decoded in zip(keys, numbers, strict=True):
            layer[:] = decoded

    def _runs(self, tokens: int) -> Iterator[tuple[int, slice]]:
        for i, start in enumerate(range(0, tokens, self._group)):
            yield i, slice(start, min(tokens, start + self._group))

    def _range(self, keys: Floats) -> tuple[Halves, Halves]:
        """Scale and offset, rounded outwards: the levels span all of the keys."""
        low, high = keys.min(axis=1), keys.max(axis=1)
        offsets = _rounded_down(low)
        return -_rounded_down((offsets.astype(np.float32) - high) / np.float32(self._levels - 1)), offsets


def _long_rows(run: slice) -> Iterator[tuple[slice, int]]:
    """Parts of a run of tokens, and how many tokens of each are one row."""
    odd = (run.stop - run.start) % _TOGETHER
    if run.stop - odd > run.start:
        yield slice(run.start, run.stop - odd), _TOGETHER
    if odd:
        yield slice(run.stop - odd, run.stop), odd


def _of_long_rows(numbers: Halves, name: str, scratch: Scratch) -> Floats:
    """A number for each channel of as many tokens as are one row."""
    *outer, dim = numbers.shape
    repeated = scratch.array(name, (*outer, _TOGETHER, dim), np.float32)
    repeated[:] = numbers.astype(np.float32)[..., None, :]
    return repeated.reshape(*outer, _TOGETHER * dim)


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
