"""Codes of few levels in whole bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic.adapters.quantisation.packing import pack, unpack
from semantic.adapters.quantisation.scratch import Scratch
from semantic.domain.value_objects.rest_precision import packed_bytes

LEVELS = (256, 32, 16, 11)


@pytest.mark.parametrize(
    ("levels", "count", "num_bytes"),
    [
        (256, 64, 64),
        (32, 64, 40),
        (16, 64, 32),
        (11, 64, 28),
        (256, 1, 16),  # 16 codes are the least that fills whole bytes at every width
        (32, 1, 10),
        (16, 17, 16),
        (11, 16, 7),
        (11, 17, 14),
        (11, 0, 0),
    ],
)
def test_codes_take_the_bytes_that_were_counted(levels: int, count: int, num_bytes: int) -> None:
    assert packed_bytes(levels, count) == num_bytes
    assert pack(np.zeros(count, np.uint8), levels).nbytes == num_bytes


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("count", [16, 80, 130, 1024])
def test_several_are_unpacked_at_once(levels: int, count: int) -> None:
    codes = np.random.default_rng(count).integers(0, levels, (3, count), dtype=np.uint8)
    packed = np.stack([pack(each, levels) for each in codes])
    np.testing.assert_array_equal(unpack(packed, levels, count, Scratch()), codes)


@given(st.sampled_from(LEVELS), st.integers(0, 700), st.integers(0, 2**32 - 1))
def test_what_is_packed_comes_back(levels: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, levels, count, dtype=np.uint8)
    packed = pack(codes, levels)
    assert (packed.dtype, packed.nbytes) == (np.uint8, packed_bytes(levels, count))
    np.testing.assert_array_equal(unpack(packed, levels, count, Scratch()), codes)


@pytest.mark.parametrize("levels", LEVELS)
def test_every_pair_of_codes_comes_back(levels: int) -> None:
    codes = np.stack(np.meshgrid(np.arange(levels), np.arange(levels))).astype(np.uint8).reshape(-1)
    np.testing.assert_array_equal(unpack(pack(codes, levels), levels, codes.size, Scratch()), codes)


def test_the_bytes_are_fixed_because_blocks_are_stored_with_them() -> None:
    codes = np.arange(16, dtype=np.uint8)
    assert pack(codes, 16).tobytes().hex() == "8091a2b3c4d5e6f7"
    assert pack(codes * 2, 32).tobytes().hex() == "0022446688aaccee00ff"
    assert pack(codes % 11, 11).tobytes().hex() == "88142021ad39c5"


def test_packing_leaves_the_codes_alone() -> None:
    for levels in LEVELS:
        codes = (np.arange(16) % levels).astype(np.uint8)
        before = codes.copy()
        pack(codes, levels)
        np.testing.assert_array_equal(codes, before)
