"""Things with a life: a sequence, and the table of its blocks."""

from semantic.domain.entities.block_table import BlockTable, Location
from semantic.domain.entities.sequence import Sequence, SequenceEvent, SequenceState

__all__ = ["BlockTable", "Location", "Sequence", "SequenceEvent", "SequenceState"]
