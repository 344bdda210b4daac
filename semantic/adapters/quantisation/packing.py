"""Codes of few levels, packed into bytes.

The first and the second half of the codes share bytes, not neighbours: numpy then works on whole arrays in order,
and on eight bytes at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semantic.adapters.quantisation.scratch import Scratch

Codes = npt.NDArray[np.uint8]

_TOGETHER = 16
_PAIR_LEVELS = 11  # a pair is one number below 121


def pack(codes: Codes, levels: int) -> Codes:
    """The bytes of a flat array of codes below ``levels``; as many as ``packed_bytes`` says."""
    missing = -codes.size % _TOGETHER
    return _PACKINGS[levels].pack(np.pad(codes, (0, missing)) if missing else codes)


def unpack(packed: Codes, levels: int, count: int, scratch: Scratch) -> Codes:
    """The ``count`` codes that were packed, ``[..., bytes]`` to ``[..., count]``; they may be in ``scratch``."""
    return _PACKINGS[levels].unpack(packed, scratch)[..., :count]


class _Packing(NamedTuple):
    pack: Callable[[Codes], Codes]
    unpack: Callable[[Codes, Scratch], Codes]


def _words(packed: Codes) -> npt.NDArray[Any]:
    """The same memory as the widest words that it divides into; numpy shifts words as fast as bytes."""
    return packed.view(np.uint8 if packed.shape[-1] % 8 else np.uint64)


def _in_each_byte(words: npt.NDArray[Any], number: int) -> Any:
    """A word of the same type with ``number`` in each of its bytes."""
    return words.dtype.type(int.from_bytes(bytes([number]) * words.itemsize, "little"))


def _flat(words: npt.NDArray[Any]) -> Codes:
    """The bytes of the last two axes, as one."""
    return words.reshape(*words.shape[:-2], -1).view(np.uint8)


def _pack_256(codes: Codes) -> Codes:
    return codes


def _unpack_256(packed: Codes, scratch: Scratch) -> Codes:
    return packed


def _pack_16(codes: Codes) -> Codes:
    half = codes.size // 2
    return codes[:half] | np.left_shift(codes[half:], 4, dtype=np.uint8)


def _unpack_16(packed: Codes, scratch: Scratch) -> Codes:
    words = _words(packed)
    halves = scratch.array("halves", (*words.shape[:-1], 2, words.shape[-1]), words.dtype)
    lower = _in_each_byte(words, 15)
    np.bitwise_and(words, lower, out=halves[..., 0, :])
    np.right_shift(words, 4, out=halves[..., 1, :])
    halves[..., 1, :] &= lower  # a shifted word has its neighbour's bits in each byte's upper half
    return _flat(halves)


def _pack_32(codes: Codes) -> Codes:
    """The lower four bits as for 16 levels, then the highest bits."""
    return np.concatenate([_pack_16(np.bitwise_and(codes, 15, dtype=np.uint8)), np.packbits(codes >> 4)])


def _unpack_32(packed: Codes, scratch: Scratch) -> Codes:
    lower = packed.shape[-1] * 4 // 5
    codes = _unpack_16(packed[..., :lower], scratch)
    highest = _words(np.unpackbits(packed[..., lower:], axis=-1))
    highest <<= 4
    words = _words(codes)
    words |= highest
    return codes


def _pack_11(codes: Codes) -> Codes:
    """Pairs of 7 bits: seven eighths of them a byte each, whose highest bits spell the last eighth."""
    half = codes.size // 2
    pairs = (codes[:half] * _PAIR_LEVELS + codes[half:]).reshape(8, -1)
    for bit in range(7):
        pairs[bit] |= (pairs[7] >> bit & 1) << 7
    return pairs[:7].reshape(-1)


def _unpack_11(packed: Codes, scratch: Scratch) -> Codes:
    words = _words(packed.reshape(*packed.shape[:-1], 7, -1))
    rows = scratch.array("rows", (*words.shape[:-2], 8, words.shape[-1]), words.dtype)
    np.bitwise_and(words, _in_each_byte(words, 127), out=rows[..., :7, :])
    highest = scratch.array("highest", words.shape, words.dtype)
    np.bitwise_and(words, _in_each_byte(words, 128), out=highest)
    highest >>= np.arange(7, 0, -1, dtype=words.dtype)[:, None]
    np.bitwise_or.reduce(highest, axis=-2, out=rows[..., 7, :])
    pairs = _flat(rows)
    codes = scratch.array("codes of pairs", (*pairs.shape[:-1], 2, pairs.shape[-1]), np.uint8)
    first, second = codes[..., 0, :], codes[..., 1, :]
    np.floor_divide(pairs, _PAIR_LEVELS, out=first)
    np.multiply(first, _PAIR_LEVELS, out=second)
    np.subtract(pairs, second, out=second)
    return _flat(codes)


_PACKINGS = {
    256: _Packing(_pack_256, _unpack_256),
    32: _Packing(_pack_32, _unpack_32),
    16: _Packing(_pack_16, _unpack_16),
    11: _Packing(_pack_11, _unpack_11),
}
