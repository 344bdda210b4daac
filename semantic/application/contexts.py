"""Contexts as the blocks they would be, and what a block has in common with them."""

from collections.abc import Iterable, Iterator

from semantic.domain.entities import KVBlock
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import block_hash, common_tokens
from semantic.domain.value_objects.packed_tokens import TOKEN_BYTES


def blocks_of(root: BlockHash, block_tokens: int, tokens: bytes) -> Iterator[KVBlock]:
    """The blocks that packed ``tokens`` fill, the last one maybe in part, wherever these may be or not be."""
    parent, size = root, block_tokens * TOKEN_BYTES
    for start in range(0, len(tokens), size):
        own = tokens[start : start + size]
        block = KVBlock(block_hash(parent, own), parent, start // TOKEN_BYTES, own)
        yield block
        parent = block.hash


class Contexts:
    """Some contexts behind one root, to be asked how much of a block is theirs."""

    def __init__(self, root: BlockHash, block_tokens: int, contexts: Iterable[bytes]) -> None:
        self._behind: dict[BlockHash, set[bytes]] = {}
        for tokens in contexts:
            for block in blocks_of(root, block_tokens, tokens):
                self._behind.setdefault(block.parent, set()).add(block.tokens)

    def num_shared(self, block: KVBlock) -> int:
        """How many of the block's tokens, from its first one on, the context that shares most of it has too."""
        return max((common_tokens(block.tokens, own) for own in self._behind.get(block.parent, ())), default=0)
