"""Memory that is used again and again."""

import numpy as np
import pytest

from semantic.adapters.quantisation.scratch import Scratch, Scratches


def test_an_array_has_the_memory_that_its_name_had_before() -> None:
    scratch = Scratch()
    scratch.array("sums", (4, 8), np.uint8)[:] = 7
    again = scratch.array("sums", (2, 4), np.uint16)
    assert (again.shape, again.dtype) == ((2, 4), np.uint16)
    assert (again == 0x0707).all()


def test_arrays_of_two_names_do_not_share_memory() -> None:
    scratch = Scratch()
    assert not np.shares_memory(scratch.array("keys", (8,), np.uint8), scratch.array("values", (8,), np.uint8))


def test_a_larger_array_gets_larger_memory_and_keeps_it() -> None:
    scratch = Scratch()
    scratch.array("codes", (8,), np.uint8)
    large = scratch.array("codes", (8, 1000), np.float32)
    assert large.shape == (8, 1000)
    assert np.shares_memory(large, scratch.array("codes", (8,), np.uint8))


def test_two_at_once_are_two_and_one_after_the_other_is_the_same() -> None:
    scratches = Scratches()
    with scratches.one() as first, scratches.one() as second:
        assert first is not second
    with scratches.one() as third:
        assert third in (first, second)


def test_a_scratch_is_given_back_after_an_error() -> None:
    scratches = Scratches()
    with pytest.raises(ValueError, match="odd"), scratches.one() as first:
        raise ValueError("odd")
    with scratches.one() as again:
        assert again is first
