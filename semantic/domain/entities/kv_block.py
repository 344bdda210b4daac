"""A block of context that is worth keeping, and where it is."""

from attrs import define, field

from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.value_objects.packed_tokens import TOKEN_BYTES


@define(eq=False)
class KVBlock:
    """Keys and values of ``num_tokens`` tokens at positions ``[start, end)``, behind the blocks of its parent chain.

    ``tokens`` are packed. ``block_id`` is set while it is resident, ``stored`` while the store has it: neither means
    that it is gone. ``has_state``: whether it also holds what a layer that can't be cut back remembers at ``end``.
    ``last_used`` counts uses, not seconds.
    """

    hash: BlockHash
    parent: BlockHash
    start: int
    tokens: bytes
    has_state: bool = False
    block_id: BlockId | None = None
    stored: bool = False
    last_used: int = field(default=0)

    @property
    def num_tokens(self) -> int:
        return len(self.tokens) // TOKEN_BYTES

    @property
    def end(self) -> int:
        """The position behind its last token."""
        return self.start + self.num_tokens

    @property
    def is_resident(self) -> bool:
        """Whether its contents are in memory."""
        return self.block_id is not None
