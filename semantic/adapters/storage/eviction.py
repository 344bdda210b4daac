"""Which blocks go when room is needed."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from attrs import frozen

from semantic.domain.identifiers import BlockHash


@frozen
class Candidate:
    """What eviction looks at. ``referenced``: by an agent. ``last_used`` counts up."""

    hash: BlockHash
    parent: BlockHash
    nbytes: int
    last_used: int
    referenced: bool

    @property
    def rank(self) -> tuple[bool, int, BlockHash]:
        """Lower goes earlier."""
        return self.referenced, self.last_used, self.hash


def choose_victims(
    candidates: Iterable[Candidate], num_bytes: int, keep: Collection[BlockHash] = ()
) -> tuple[BlockHash, ...]:
    """The least recently used blocks of ``num_bytes`` together, or of as much as there is.

    A block goes after its children, which are worth nothing without it. Those that an agent refers to go last, those
    in ``keep`` and their ancestors not at all.
    """
    blocks = {candidate.hash: candidate for candidate in candidates}
    kept = _with_ancestors(keep, blocks)
    children = Counter(block.parent for block in blocks.values())
    leaves = [block.rank for block in blocks.values() if not children[block.hash] and block.hash not in kept]
    heapq.heapify(leaves)
    victims: list[BlockHash] = []
    while leaves and num_bytes > 0:
        *_, block_hash = heapq.heappop(leaves)
        victims.append(block_hash)
        num_bytes -= blocks[block_hash].nbytes
        parent = blocks[block_hash].parent
        children[parent] -= 1
        if parent in blocks and not children[parent] and parent not in kept:
            heapq.heappush(leaves, blocks[parent].rank)
    return tuple(victims)


def _with_ancestors(hashes: Iterable[BlockHash], blocks: Mapping[BlockHash, Candidate]) -> set[BlockHash]:
    found: set[BlockHash] = set()
    for block_hash in hashes:
        while block_hash in blocks and block_hash not in found:
            found.add(block_hash)
            block_hash = blocks[block_hash].parent
    return found
