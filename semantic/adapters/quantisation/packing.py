"""Codes of few levels, packed into bytes.

The first and the second half of the codes share bytes, not neighbours: numpy then works on whole arrays in order.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]

_TOGETHER = 16
_PAIR_LEVELS = 11  # a pair is one number below 121


def pack(codes: Codes, levels: int) -> Codes:
    """The bytes of a flat array of codes below ``levels``; as many as ``packed_bytes`` says."""
    missing = -codes.size % _TOGETHER
    return _PACKINGS[levels].pack(np.pad(codes, (0, missing)) if missing else codes)


def unpack(packed: Codes, levels: int, count: int) -> Codes:
    """The ``count`` codes that were packed."""
    return _PACKINGS[levels].unpack(packed)[:count]


class _Packing(NamedTuple):
    pack: Callable[[Codes], Codes]
    unpack: Callable[[Codes], Codes]


def _as_they_are(codes: Codes) -> Codes:
    return codes


def _pack_16(codes: Codes) -> Codes:
    half = codes.size // 2
    return codes[:half] | np.left_shift(codes[half:], 4, dtype=np.uint8)


def _unpack_16(packed: Codes) -> Codes:
    codes = np.empty(2 * packed.size, np.uint8)
    np.bitwise_and(packed, 15, out=codes[: packed.size])
    np.right_shift(packed, 4, out=codes[packed.size :])
    return codes


def _pack_32(codes: Codes) -> Codes:
    """The lower four bits as for 16 levels, then the highest bits."""
    return np.concatenate([_pack_16(np.bitwise_and(codes, 15, dtype=np.uint8)), np.packbits(codes >> 4)])


def _unpack_32(packed: Codes) -> Codes:
    lower = packed.size * 4 // 5
    codes = _unpack_16(packed[:lower])
    high = np.unpackbits(packed[lower:])
    high <<= 4
    codes |= high
    return codes


def _pack_11(codes: Codes) -> Codes:
    """Pairs of 7 bits: seven eighths of them a byte each, whose highest bits spell the last eighth."""
    half = codes.size // 2
    pairs = (codes[:half] * _PAIR_LEVELS + codes[half:]).reshape(8, -1)
    for bit in range(7):
        pairs[bit] |= (pairs[7] >> bit & 1) << 7
    return pairs[:7].reshape(-1)


def _unpack_11(packed: Codes) -> Codes:
    rows = packed.reshape(7, -1)
    pairs = np.empty((8, rows.shape[1]), np.uint8)
    np.bitwise_and(rows, 127, out=pairs[:7])
    pairs[7] = 0
    for bit in range(7):
        pairs[7] |= rows[bit] >> 7 << bit
    codes = np.empty((2, pairs.size), np.uint8)
    np.floor_divide(pairs.reshape(-1), _PAIR_LEVELS, out=codes[0])
    np.subtract(pairs.reshape(-1), codes[0] * _PAIR_LEVELS, out=codes[1])
    return codes.reshape(-1)


_PACKINGS = {
    256: _Packing(_as_they_are, _as_they_are),
    32: _Packing(_pack_32, _unpack_32),
    16: _Packing(_pack_16, _unpack_16),
    11: _Packing(_pack_11, _unpack_11),
}
