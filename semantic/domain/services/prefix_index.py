"""Which contexts are cached: a tree of blocks by their contents.

A block hangs below its parent's hash, the first ones below their namespace's root. Every block in the index is
resident, or stored, or both; one that is neither is taken out. Taking out a parent leaves its children where they
are: they can't be reached until the same parent comes back, which is the same because its name is its contents.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import attrgetter

from attrs import frozen

from semantic.domain.entities.kv_block import KVBlock
from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.value_objects.cache_context import block_hash
from semantic.domain.value_objects.packed_tokens import TOKEN_BYTES, common_tokens
from semantic.domain.value_objects.reuse import Reuse

_tokens = attrgetter("tokens")


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
        self._children: dict[BlockHash, list[KVBlock]] = {}  # by parent, sorted: those that begin alike are neighbours
        self._residents: dict[BlockId, dict[BlockHash, KVBlock]] = {}  # shorter versions of a block share its memory

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[KVBlock]:
        return iter(self._blocks.values())

    def get(self, block_hash: BlockHash) -> KVBlock | None:
        """The block of this name, if it is there."""
        return self._blocks.get(block_hash)

    # -- what is there ---------------------------------------------------------------------------

    def add(self, block: KVBlock) -> KVBlock:
        """Put a block in that is somewhere, or learn from it where the one of the same name now is. Returns that one.

        Equal tokens, unequal state: a copy with state takes the place of those without, and one without teaches
        nothing. So ``has_state`` is true of every place where a block is.
        """
        present = self._blocks.get(block.hash)
        if present is None:
            self._blocks[block.hash] = present = block
            insort(self._children.setdefault(block.parent, []), block, key=_tokens)
        elif block.has_state and not present.has_state:
            self.detach(present)
            present.has_state, present.stored = True, block.stored
        elif block.has_state == present.has_state:
            present.stored |= block.stored
        else:
            return present
        if block.block_id is not None and (present is block or not present.is_resident):
            self.make_resident(present, block.block_id)
        return present

    def make_resident(self, block: KVBlock, block_id: BlockId) -> None:
        """Note that the block's contents are in this memory now, and in no other. One taken out since stays out."""
        if self._blocks.get(block.hash) is not block:
            return
        if block.block_id != block_id:
            self.detach(block)
        others = self._residents.setdefault(block_id, {})
        assert all(_are_versions(block, other) for other in others.values()), "memory holds two different blocks"
        others[block.hash] = block
        block.block_id = block_id

    def residents(self, block_id: BlockId) -> tuple[KVBlock, ...]:
        """The blocks whose contents are in this memory."""
        return tuple(self._residents.get(block_id, {}).values())

    def evict(self, block_id: BlockId) -> None:
        """Note that this memory has other contents now. Blocks that are not stored either are taken out."""
        for block in self._residents.pop(block_id, {}).values():
            block.block_id = None
            if not block.stored:
                self._take_out(block)

    def unstore(self, block: KVBlock) -> None:
        """Note that the store has lost the block of this name. It is taken out unless it is resident."""
        present = self._blocks.get(block.hash, block)
        present.stored = False
        if not present.is_resident:
            self._take_out(present)

    def remove(self, block: KVBlock) -> bool:
        """Take the block of this name out. Returns whether its memory now holds nothing that is indexed."""
        present = self._blocks.get(block.hash, block)
        present.stored = False
        self._take_out(present)
        return self.detach(present)

    def shorter_versions(self, block: KVBlock) -> list[KVBlock]:
        """The blocks behind the same parent whose tokens this one begins with."""
        return self._prefixes(block.parent, block.tokens[:-TOKEN_BYTES])

    def longer_versions(self, block: KVBlock) -> list[KVBlock]:
        """The blocks behind the same parent that begin with this one's tokens, itself excluded."""
        return [other for other in self._beginning_with(block.parent, block.tokens) if other is not block]

    def version_with(self, parent: BlockHash, tokens: bytes) -> KVBlock | None:
        """The block behind ``parent`` that begins with these tokens and costs least to use; None if none does."""
        return min(self._beginning_with(parent, tokens), key=_cost, default=None)

    def descendants(self, block: KVBlock) -> list[KVBlock]:
        """Every block that continues this one, nearest first."""
        found: list[KVBlock] = []
        pending = [block]
        for ancestor in pending:
            children = self._children.get(ancestor.hash, [])
            found += children
            pending += children
        return found

    def detach(self, block: KVBlock) -> bool:
        """Note that a block is not in memory any more. Returns whether that memory now holds nothing that is indexed.

        The block stays in the index even if it is not stored: :meth:`remove` it, or make it resident elsewhere.
        """
        block_id, block.block_id = block.block_id, None
        if block_id is None:
            return False
        residents = self._residents.get(block_id, {})
        left = residents.pop(block.hash, None) is not None and not residents
        if left:
            del self._residents[block_id]
        return left

    def _take_out(self, block: KVBlock) -> None:
        if self._blocks.pop(block.hash, None) is None:
            return
        siblings = self._children[block.parent]
        del siblings[bisect_left(siblings, block.tokens, key=_tokens)]
        if not siblings:
            del self._children[block.parent]

    # -- finding ---------------------------------------------------------------------------------

    def match(self, root: BlockHash, tokens: bytes, limit: int) -> Match:
        """The longest prefix of packed ``tokens`` that may be used, of at most ``limit`` tokens."""
        limit = min(limit, len(tokens) // TOKEN_BYTES)
        if self.reuse is Reuse.NEVER or limit <= 0:
            return Match()
        if self.reuse is Reuse.AT_STATES:
            return self._at_states(root, tokens, limit)
        longest = self._anywhere(root, tokens, limit)
        return self._at_chunks(longest) if self.reuse is Reuse.AT_CHUNKS else longest

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

    def _at_chunks(self, longest: Match) -> Match:
        num_tokens = longest.num_tokens // self._chunk_tokens * self._chunk_tokens
        return Match(tuple(block for block in longest.blocks if block.start < num_tokens), num_tokens)

    def _anywhere(self, root: BlockHash, tokens: bytes, limit: int) -> Match:
        path = self._whole_blocks(root, tokens, limit)
        parent, start = (path[-1].hash, path[-1].end) if path else (root, 0)
        rest = self._next(tokens, start, limit)
        children = self._children.get(parent, [])
        place = bisect_left(children, rest, key=_tokens)  # those most like the rest are beside its place
        most = max((common_tokens(child.tokens, rest) for child in children[max(0, place - 1) : place + 1]), default=0)
        if not most:
            return Match(tuple(path), start)
        return Match((*path, min(self._beginning_with(parent, rest[: most * TOKEN_BYTES]), key=_cost)), start + most)

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
            whole = None
            for child in self._prefixes(parent, self._next(tokens, start, limit)):
                whole = child if child.num_tokens == self.block_tokens else None
                yield child, whole is not None
            if whole is None:
                return
            parent, start = whole.hash, whole.end

    def _beginning_with(self, parent: BlockHash, head: bytes) -> list[KVBlock]:
        """The children of ``parent`` that begin with ``head``."""
        children = self._children.get(parent, [])
        first = bisect_left(children, head, key=_tokens)
        return children[first : bisect_right(children, head, key=lambda child: child.tokens[: len(head)])]

    def _prefixes(self, parent: BlockHash, rest: bytes) -> list[KVBlock]:
        """The children of ``parent`` that ``rest`` begins with, shortest first."""
        found: list[KVBlock] = []
        children = self._children.get(parent, [])
        while rest:
            place = bisect_right(children, rest, key=_tokens)
            if not place:
                break
            child = children[place - 1]  # a prefix that is longer than what they have in common would lie behind it
            common = common_tokens(child.tokens, rest)
            if common == child.num_tokens:
                found.append(child)
                common -= 1
            rest = rest[: common * TOKEN_BYTES]
        return found[::-1]

    def _next(self, tokens: bytes, start: int, limit: int) -> bytes:
        """The tokens from ``start`` on that one block can hold."""
        return tokens[start * TOKEN_BYTES : min(limit, start + self.block_tokens) * TOKEN_BYTES]


def _cost(block: KVBlock) -> tuple[bool, int]:
    """Of blocks that hold equally much: a resident one costs least, then the one that needs the least cutting."""
    return not block.is_resident, block.num_tokens


def _are_versions(a: KVBlock, b: KVBlock) -> bool:
    """Whether one continues the other in the same place."""
    return a.parent == b.parent and (a.tokens.startswith(b.tokens) or b.tokens.startswith(a.tokens))
