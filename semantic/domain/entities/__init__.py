"""Things with a life: a sequence, the table of its blocks, and a block worth keeping."""

from semantic.domain.entities.block_table import BlockTable, Location
from semantic.domain.entities.kv_block import KVBlock
from semantic.domain.entities.sequence import Sequence, SequenceEvent, SequenceState

__all__ = ["BlockTable", "KVBlock", "Location", "Sequence", "SequenceEvent", "SequenceState"]
