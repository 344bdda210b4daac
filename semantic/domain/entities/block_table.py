"""Where each token of one sequence lies."""

from collections.abc import Iterable
from typing import NamedTuple

from semantic.domain.errors import PositionNotMappedError
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects._checks import require_int


class Location(NamedTuple):
    """One token's place: the block, and how many tokens lie before it in that block."""

    block_id: BlockId
    offset: int


class BlockTable:
    """The blocks of one sequence in order: position ``p`` lies in block ``p // block_tokens``.

    The table maps; it does not own. Whoever clears it releases the blocks to the pool.
    """

    def __init__(self, block_tokens: int) -> None:
        require_int("block_tokens", block_tokens, 1)
        self.block_tokens = block_tokens
        self._block_ids: list[BlockId] = []

    def __len__(self) -> int:
        return len(self._block_ids)

    @property
    def block_ids(self) -> tuple[BlockId, ...]:
        return tuple(self._block_ids)

    @property
    def capacity_tokens(self) -> int:
        """Tokens that fit the blocks there are."""
        return len(self._block_ids) * self.block_tokens

    def blocks_needed(self, num_tokens: int) -> int:
        """Blocks to add so that the sequence's first ``num_tokens`` tokens fit; 0 if they do already."""
        return max(0, -(-num_tokens // self.block_tokens) - len(self._block_ids))

    def extend(self, block_ids: Iterable[BlockId]) -> None:
        """Append blocks for the positions that follow."""
        self._block_ids.extend(block_ids)

    def locate(self, position: int) -> Location:
        """The place of the token at ``position`` (from 0). Raises :class:`PositionNotMappedError`."""
        if not 0 <= position < self.capacity_tokens:
            raise PositionNotMappedError(position, self.capacity_tokens)
        index, offset = divmod(position, self.block_tokens)
        return Location(self._block_ids[index], offset)

    def clear(self) -> tuple[BlockId, ...]:
        """Empty the table and return the blocks it had, for the caller to release."""
        block_ids = self.block_ids
        self._block_ids.clear()
        return block_ids
