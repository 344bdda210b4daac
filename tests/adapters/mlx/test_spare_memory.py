"""Memory that is there before blocks come."""

import weakref

import numpy as np

from semantic.adapters.mlx.spare_memory import SpareMemory


def test_each_piece_is_given_once() -> None:
    spare = SpareMemory()
    spare.provide(2, 64)
    pieces = [spare.take(64) for _ in range(4)]
    assert [piece.size for piece in pieces] == [64] * 4
    assert not any(np.shares_memory(a, b) for i, a in enumerate(pieces) for b in pieces[:i])


def test_other_sizes_are_given_too_and_leave_the_spare_pieces_alone() -> None:
    spare = SpareMemory()
    spare.provide(1, 64)
    assert spare.take(32).size == 32
    assert spare.take(128).size == 128
    assert (spare.take(64) == 1).all()  # written before, so that the system has found it


def test_what_was_provided_before_is_replaced() -> None:
    spare = SpareMemory()
    spare.provide(1, 64)
    spare.provide(1, 32)
    assert spare.take(32).size == 32
    assert spare.take(64).size == 64


def test_what_nobody_asked_for_is_given_back() -> None:
    spare = SpareMemory()
    spare.provide(1, 64)
    piece = weakref.ref(spare._pieces[0])
    spare.clear()
    assert piece() is None
    assert spare.take(64).size == 64
