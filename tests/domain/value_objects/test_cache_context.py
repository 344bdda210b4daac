"""What a block's name stands for."""

import hashlib

import attrs
import pytest

from semantic.domain.errors import InvalidRequestError
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import CacheContext, block_hash, check_namespace, pack_tokens

CONTEXT = CacheContext(
    model="f00d",
    layers="kv x 30",
    block_tokens=256,
    kv_precision="native",
    compute_dtype="float32",
    cache_layout="paged",
    numerics="mlx 0.32",
    lane="token",
)
OTHERS = {
    "model": "beef",
    "layers": "kv x 29, recurrent",
    "block_tokens": 128,
    "kv_precision": "8 bit",
    "compute_dtype": "bfloat16",
    "cache_layout": "contiguous",
    "numerics": "mlx 0.33",
    "lane": "bit",
    "adapters": ("10ca",),
}
EMPTY_ROOT = BlockHash(bytes(32))

# -- the context ---------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(CacheContext)])
def test_every_field_changes_the_digest_and_the_root(field: str) -> None:
    other = attrs.evolve(CONTEXT, **{field: OTHERS[field]})
    assert other.digest != CONTEXT.digest
    assert other.root() != CONTEXT.root()


def test_a_value_counts_in_its_own_field_only() -> None:
    swapped = attrs.evolve(CONTEXT, kv_precision="float32", compute_dtype="native")
    assert swapped.digest != CONTEXT.digest


def test_adapters_count_in_their_order() -> None:
    one = attrs.evolve(CONTEXT, adapters=("a", "b"))
    assert one.digest != attrs.evolve(CONTEXT, adapters=("b", "a")).digest
    assert one.digest != attrs.evolve(CONTEXT, adapters=("ab",)).digest


def test_the_digest_is_fixed_because_stored_blocks_are_found_by_it() -> None:
    assert CONTEXT.digest == "7503734584bd304cbc852d9d77f31b2ebf086a83ff158d74f1023a6048df0fc9"
    assert CONTEXT.digest == attrs.evolve(CONTEXT).digest


# -- namespaces ----------------------------------------------------------------------------------


def test_the_root_is_fixed_because_stored_blocks_hang_from_it() -> None:
    assert CONTEXT.root().hex() == "a8d2de278f729a765031f41a07ceefda61dd501bd6fe2ae9fc2fe1adaba39f4a"
    assert CONTEXT.root() == CONTEXT.root("default")


def test_equal_tokens_of_two_namespaces_have_no_name_in_common() -> None:
    tokens = pack_tokens(range(256))
    names = {block_hash(CONTEXT.root(namespace), tokens) for namespace in ("default", "alice", "Alice", "alice ", "é")}
    assert len(names) == 5


@pytest.mark.parametrize("namespace", ["default", "a", "tenant/7", "名前", "x" * 256, "é" * 128])
def test_a_namespace_is_any_short_text(namespace: str) -> None:
    assert check_namespace(namespace) == namespace
    assert len(CONTEXT.root(namespace)) == 32


@pytest.mark.parametrize("namespace", ["", "x" * 257, "é" * 129, "\ud800", None, 7, b"alice", ["alice"]])
def test_what_cannot_be_a_namespace_is_refused(namespace: object) -> None:
    with pytest.raises(InvalidRequestError, match="a namespace is a non-empty string of at most 256 bytes"):
        check_namespace(namespace)  # type: ignore[arg-type]


# -- the chain -----------------------------------------------------------------------------------


def test_the_chain_is_fixed_because_stored_blocks_are_named_by_it() -> None:
    first = block_hash(EMPTY_ROOT, pack_tokens([1, 2, 3]))
    second = block_hash(first, pack_tokens([4]))
    assert first.hex() == "3db346a400ab6b8db792fcf156443a8885b27db208362dcf77084f8c7648e645"
    assert second.hex() == "6edb67c9ab9a387e2ff27be654159eb745218893a26d2def21f3f2231722326e"


def test_a_name_is_sha256_of_the_parents_name_and_the_packed_tokens() -> None:
    expected = hashlib.sha256(bytes(32) + b"\x01\0\0\0\x02\0\0\0").digest()
    assert block_hash(EMPTY_ROOT, pack_tokens([1, 2])) == expected


def test_a_partial_block_is_named_by_the_same_rule_as_a_whole_one() -> None:
    tokens = pack_tokens(range(256))
    names = {block_hash(EMPTY_ROOT, tokens[: 4 * count]) for count in range(1, 257)}
    assert len(names) == 256
    assert block_hash(EMPTY_ROOT, tokens) in names


def test_equal_tokens_behind_different_ones_have_another_name() -> None:
    tokens = pack_tokens([5, 6])
    behind = [block_hash(EMPTY_ROOT, pack_tokens([token_id])) for token_id in (1, 2)]
    assert block_hash(behind[0], tokens) != block_hash(behind[1], tokens)


def test_where_blocks_are_cut_is_part_of_the_name() -> None:
    whole = block_hash(EMPTY_ROOT, pack_tokens([1, 2]))
    assert block_hash(block_hash(EMPTY_ROOT, pack_tokens([1])), pack_tokens([2])) != whole
