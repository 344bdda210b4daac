"""Token ids as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.value_objects import common_tokens, pack_tokens, unpack_tokens

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=40)


def test_a_token_is_four_bytes_the_lowest_first() -> None:
    assert pack_tokens([1, 258, 4_294_967_295]) == b"\x01\0\0\0\x02\x01\0\0\xff\xff\xff\xff"
    assert unpack_tokens(b"\x01\0\0\0\x02\x01\0\0\xff\xff\xff\xff") == (1, 258, 4_294_967_295)


def test_no_tokens_are_no_bytes() -> None:
    assert pack_tokens([]) == b""
    assert unpack_tokens(b"") == ()


def test_any_iterable_of_ids_is_packed() -> None:
    assert pack_tokens(iter((7, 8))) == pack_tokens([7, 8]) == b"\x07\0\0\0\x08\0\0\0"


@pytest.mark.parametrize("token_id", [-1, 4_294_967_296])
def test_an_id_that_does_not_fit_is_refused_rather_than_cut(token_id: int) -> None:
    with pytest.raises(OverflowError):
        pack_tokens([token_id])


@pytest.mark.parametrize("token_id", [1.0, "1", None])
def test_what_is_no_integer_is_refused(token_id: object) -> None:
    with pytest.raises(TypeError):
        pack_tokens([token_id])  # type: ignore[list-item]


def test_bytes_that_are_no_whole_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of item size"):
        unpack_tokens(b"\x01\0\0")


@given(TOKENS)
def test_what_was_packed_is_unpacked_the_same(token_ids: list[int]) -> None:
    assert unpack_tokens(pack_tokens(token_ids)) == tuple(token_ids)


@pytest.mark.parametrize(
    ("a", "b", "common"),
    [
        ([], [], 0),
        ([], [1], 0),
        ([1], [1], 1),
        ([1], [2], 0),
        ([1, 2, 3], [1, 2, 3, 4], 3),
        ([1, 2, 3, 4], [1, 2, 9, 4], 2),
        ([9, 2, 3, 4], [1, 2, 3, 4], 0),
        ([1, 256], [1, 512], 1),
        ([1, 256], [1, 65_792], 1),  # the two lower bytes are equal: half a token is none
        ([5] * 256, [5] * 255 + [6], 255),
    ],
)
def test_common_tokens_counts_whole_tokens_up_to_the_first_difference(a: list[int], b: list[int], common: int) -> None:
    assert common_tokens(pack_tokens(a), pack_tokens(b)) == common
    assert common_tokens(pack_tokens(b), pack_tokens(a)) == common


@given(st.lists(st.integers(0, 1), max_size=12), st.lists(st.integers(0, 1), max_size=12))
def test_common_tokens_agrees_with_counting_one_by_one(a: list[int], b: list[int]) -> None:
    common = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_tokens(pack_tokens(a), pack_tokens(b)) == common
