"""Blocks of four tokens and what an index finds of them, for tests."""

from semantic.domain.entities.kv_block import KVBlock
from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.services import Match, PrefixIndex
from semantic.domain.value_objects import Reuse, block_hash, pack_tokens, unpack_tokens

ROOT, OTHER_ROOT = BlockHash(b"r" * 32), BlockHash(b"o" * 32)
ONE, TWO, THREE = BlockId(1), BlockId(2), BlockId(3)


def block(
    tokens: list[int],
    *,
    after: KVBlock | None = None,
    at: BlockId | None = None,
    stored: bool = False,
    has_state: bool = False,
) -> KVBlock:
    """A block of these tokens, in the store if no place is named."""
    parent, packed = after.hash if after else ROOT, pack_tokens(tokens)
    return KVBlock(
        hash=block_hash(parent, packed),
        parent=parent,
        start=after.end if after else 0,
        tokens=packed,
        has_state=has_state,
        block_id=at,
        stored=stored or at is None,
    )


def index_of(*blocks: KVBlock, reuse: Reuse = Reuse.ANYWHERE, chunk_tokens: int = 0) -> PrefixIndex:
    index = PrefixIndex(4, reuse, chunk_tokens)
    for each in blocks:
        assert index.add(each) is each
    return index


def match(index: PrefixIndex, tokens: list[int], limit: int | None = None, root: BlockHash = ROOT) -> Match:
    """As for a prompt: the last token is not matched unless ``limit`` says so."""
    return index.match(root, pack_tokens(tokens), len(tokens) - 1 if limit is None else limit)


def found(index: PrefixIndex, tokens: list[int], limit: int | None = None) -> list[tuple[int, ...]]:
    """The tokens that are used of each block."""
    result = match(index, tokens, limit)
    return [unpack_tokens(each.tokens)[: result.num_tokens - each.start] for each in result.blocks]
