"""Token ids as bytes: 32-bit little-endian words. Small, quick to compare, and the form that is hashed and stored."""

import sys
from array import array
from collections.abc import Iterable

TOKEN_BYTES = 4


def pack_tokens(token_ids: Iterable[int]) -> bytes:
    """``token_ids`` (0 to 2^32 - 1), four bytes each."""
    words = array("I", token_ids)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def unpack_tokens(packed: bytes) -> tuple[int, ...]:
    """The token ids that :func:`pack_tokens` packed."""
    words = array("I")
    words.frombytes(packed)
    if sys.byteorder == "big":
        words.byteswap()
    return tuple(words)


def common_tokens(a: bytes, b: bytes) -> int:
    """How many tokens two packed sequences begin with alike. O(n), a few comparisons of whole slices."""
    low, high = 0, min(len(a), len(b)) // TOKEN_BYTES
    if a[: high * TOKEN_BYTES] == b[: high * TOKEN_BYTES]:
        return high
    while low + 1 < high:  # the first `low` tokens agree, the first `high` don't
        middle = (low + high) // 2
        if a[low * TOKEN_BYTES : middle * TOKEN_BYTES] == b[low * TOKEN_BYTES : middle * TOKEN_BYTES]:
            low = middle
        else:
            high = middle
    return low
