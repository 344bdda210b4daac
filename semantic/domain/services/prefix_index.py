"""Which contexts are cached: a tree of blocks by their contents.

A block hangs below its parent's hash, the first ones below their namespace's root. Every block in the index is
resident, or stored, or both; one that is neither is taken out. Taking out a parent leaves its children where they
are: they can't be reached until the same parent comes back, which is the same because its name is its contents.
"""

from collections.abc import Iterator

from attrs import frozen

from semantic.domain.entities.kv_block import KVBlock
from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.value_objects.cache_context import block_hash
from semantic.domain.value_objects.packed_tokens import TOKEN_BYTES, common_tokens
from semantic.domain.value_objects.reuse import Reuse

_EMPTY: dict[BlockHash, KVBlock] = {}


@frozen
class Match:
    """The longest usable prefix: ``num_tokens`` tokens in ``blocks``, the last of which may be used in part."""

    blocks: tuple[KVBlock, ...] = ()
    num_tokens: int = 0

    @property
    def used_of_last(self) -> int:
        """Tokens used of the last block."""
        return self.num_tokens - self.blocks[-1].start if self.blocks else 0


class PrefixIndex:
    """Finds the longest cached prefix of a prompt, in time that grows with the prompt and not with the index.

    ``chunk_tokens`` is the step of :attr:`Reuse.AT_CHUNKS`. Not thread-safe: one thread owns it.
    """

    def __init__(self, block_tokens: int, reuse: Reuse = Reuse.ANYWHERE, chunk_tokens: int = 0) -> None:
        self.block_tokens, self.reuse = block_tokens, reuse
        self._chunk_tokens = chunk_tokens or block_tokens
        self._blocks: dict[BlockHash, KVBlock] = {}
        self._children: dict[tuple[BlockHash, bytes], dict[BlockHash, KVBlock]] = {}  # by parent and first token
        self._residents: dict[BlockId, list[KVBlock]] = {}  # a block and shorter versions of it share memory

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[KVBlock]:
        return iter(self._blocks.values())

    def get(self, block_hash: BlockHash) -> KVBlock | None:
        """The block of this name, if it is there."""
        return self._blocks.get(block_hash)

    # -- what is there ---------------------------------------------------------------------------

    def add(self, block: KVBlock) -> KVBlock:
        """Put a block in, or learn from it where the one that is there of the same name now is. Returns that one."""
        present = self._blocks.get(block.hash)
        if present is None:
            self._blocks[block.hash] = present = block
            self._siblings(block)[block.hash] = block
        else:
            present.stored |= block.stored
            present.has_state |= block.has_state
        if block.block_id is not None and (present is block or present.block_id is None):
            self.make_resident(present, block.block_id)
        return present

    def make_resident(self, block: KVBlock, block_id: BlockId) -> None:
        """Note that the block's contents are in this memory now."""
        block.block_id = block_id
        self._residents.setdefault(block_id, []).append(block)

    def residents(self, block_id: BlockId) -> tuple[KVBlock, ...]:
        """The blocks whose contents are in this memory."""
        return tuple(self._residents.get(block_id, ()))

    def evict(self, block_id: BlockId) -> None:
        """Note that this memory has other contents now. Blocks that are not stored either are taken out."""
        for block in self._residents.pop(block_id, ()):
            block.block_id = None
            if not block.stored:
                self._take_out(block)

    def unstore(self, block: KVBlock) -> None:
        """Note that the store has lost the block. It is taken out unless it is resident."""
        block.stored = False
        if not block.is_resident:
            self._take_out(block)

    def remove(self, block: KVBlock) -> bool:
        """Take a block out wherever it is. Returns whether its memory now holds nothing that is indexed."""
        block.stored = False
        block_id, block.block_id = block.block_id, None
        self._take_out(block)
        if block_id is None:
            return False
        self._residents[block_id].remove(block)
        if self._residents[block_id]:
            return False
        del self._residents[block_id]
        return True

    def descendants(self, block: KVBlock) -> Iterator[KVBlock]:
        """Every block that continues this one, nearest first. O(index)."""
        by_parent: dict[BlockHash, list[KVBlock]] = {}
        for other in self._blocks.values():
            by_parent.setdefault(other.parent, []).append(other)
        pending = [block.hash]
        for name in pending:
            for child in by_parent.get(name, ()):
                pending.append(child.hash)
                yield child

    def _take_out(self, block: KVBlock) -> None:
        if self._blocks.pop(block.hash, None) is not None:
            siblings = self._siblings(block)
            del siblings[block.hash]
            if not siblings:
                del self._children[block.parent, block.tokens[:TOKEN_BYTES]]

    def _siblings(self, block: KVBlock) -> dict[BlockHash, KVBlock]:
        return self._children.setdefault((block.parent, block.tokens[:TOKEN_BYTES]), {})

    # -- finding ---------------------------------------------------------------------------------

    def match(self, root: BlockHash, tokens: bytes, limit: int) -> Match:
        """The longest prefix of packed ``tokens`` that may be used, of at most ``limit`` tokens."""
        if self.reuse is Reuse.NEVER or limit <= 0:
            return Match()
        if self.reuse is Reuse.AT_STATES:
            return self._at_states(root, tokens, limit)
        path = self._whole_blocks(root, tokens, limit)
        return self._at_chunks(path) if self.reuse is Reuse.AT_CHUNKS else self._anywhere(root, path, tokens, limit)

    def path(self, root: BlockHash, tokens: bytes) -> list[KVBlock]:
        """The blocks that hold exactly a prefix of packed ``tokens``: whole ones in order, then partial ones."""
        return [block for block, _ in self._along(root, tokens, len(tokens) // TOKEN_BYTES)]

    def _whole_blocks(self, root: BlockHash, tokens: bytes, limit: int) -> list[KVBlock]:
        path: list[KVBlock] = []
        size, parent = self.block_tokens * TOKEN_BYTES, root
        for start in range(0, limit * TOKEN_BYTES - size + 1, size):
            found = self._blocks.get(block_hash(parent, tokens[start : start + size]))
            if found is None:
                break
            path.append(found)
            parent = found.hash
        return path

    def _at_chunks(self, path: list[KVBlock]) -> Match:
        num_tokens = len(path) * self.block_tokens // self._chunk_tokens * self._chunk_tokens
        return Match(tuple(path[: num_tokens // self.block_tokens]), num_tokens)

    def _anywhere(self, root: BlockHash, path: list[KVBlock], tokens: bytes, limit: int) -> Match:
        parent, start = (path[-1].hash, path[-1].end) if path else (root, 0)
        rest = self._next(tokens, start, limit)
        best, most = None, 0
        for child in self._children.get((parent, rest[:TOKEN_BYTES]), _EMPTY).values():
            common = common_tokens(child.tokens, rest)
            if common > most or (best is not None and common == most and _suits_better(child, best)):
                best, most = child, common
        if best is None:
            return Match(tuple(path), start)
        return Match((*path, best), start + most)

    def _at_states(self, root: BlockHash, tokens: bytes, limit: int) -> Match:
        best = Match()
        whole: list[KVBlock] = []
        for block, is_whole in self._along(root, tokens, limit):
            if block.has_state and block.end > best.num_tokens:
                best = Match((*whole, block), block.end)
            if is_whole:
                whole.append(block)
        return best

    def _along(self, root: BlockHash, tokens: bytes, limit: int) -> Iterator[tuple[KVBlock, bool]]:
        """Blocks that agree with the tokens to their own end, partial ones before the whole one beside them."""
        parent, start = root, 0
        while True:
            rest = self._next(tokens, start, limit)
            agreeing = [
                child
                for child in self._children.get((parent, rest[:TOKEN_BYTES]), _EMPTY).values()
                if rest.startswith(child.tokens)
            ]
            whole = None
            for child in sorted(agreeing, key=lambda child: child.end):
                whole = child if child.num_tokens == self.block_tokens else None
                yield child, whole is not None
            if whole is None:
                return
            parent, start = whole.hash, whole.end

    def _next(self, tokens: bytes, start: int, limit: int) -> bytes:
        """The tokens from ``start`` on that one block can hold."""
        return tokens[start * TOKEN_BYTES : min(limit, start + self.block_tokens) * TOKEN_BYTES]


def _suits_better(child: KVBlock, best: KVBlock) -> bool:
    """Of two that hold equally much: the resident one, then the one that needs less cutting."""
    return (child.is_resident, -child.num_tokens) > (best.is_resident, -best.num_tokens)
