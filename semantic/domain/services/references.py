"""Which agent's context refers to which blocks."""

from collections import Counter
from collections.abc import Hashable, Iterable

from semantic.domain.identifiers import BlockHash


class References:
    """Owners and the blocks they refer to. A block may have many owners, or none."""

    def __init__(self) -> None:
        self._of: dict[Hashable, frozenset[BlockHash]] = {}
        self._owners: Counter[BlockHash] = Counter()

    def of(self, owner: Hashable) -> frozenset[BlockHash]:
        """What this owner refers to."""
        return self._of.get(owner, frozenset())

    def replace(self, owner: Hashable, blocks: Iterable[BlockHash]) -> None:
        """Let ``owner`` refer to these blocks and no others; to none is as if it had never been there."""
        before, now = self.of(owner), frozenset(blocks)
        self._owners.update(now - before)
        self._owners.subtract(before - now)
        for block in before - now:
            if not self._owners[block]:
                del self._owners[block]
        if now:
            self._of[owner] = now
        else:
            self._of.pop(owner, None)

    def is_shared(self, block: BlockHash, owner: Hashable = None) -> bool:
        """Whether anyone but ``owner`` refers to the block."""
        return self._owners[block] > (block in self.of(owner))
