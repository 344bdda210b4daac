"""What one sequence takes from the prefix cache."""

from enum import Enum

from attrs import define, field, frozen

from semantic.application.ports.model import SequenceCache
from semantic.domain.entities import KVBlock
from semantic.domain.identifiers import BlockHash, BlockId


class Take(Enum):
    """How a sequence gets a matched block. With the last two the block stays what it is and is written on elsewhere."""

    SHARE = "share"  # it is resident: hold it
    LOAD = "load"  # it is stored: load it, then hold it
    COPY = "copy"  # it is resident, and used in part or written on: copy its first tokens
    LOAD_APART = "load apart"  # it is stored and used in part: load it into a block of one's own


@frozen
class Part:
    """One matched block and how it is taken."""

    block: KVBlock
    take: Take


@define(eq=False)
class Lease:
    """One sequence's dealings with the cache.

    ``tokens``: its prompt, packed. ``owner``: the agent it belongs to, if any. ``hashes`` name the whole blocks at
    its beginning that are indexed. ``parts`` were taken, in ``placed``; ``written`` are the blocks that only this
    sequence writes on; ``held`` are held beside its table until it begins. ``loading`` counts loads under way.
    """

    root: BlockHash
    cache: SequenceCache
    tokens: bytes
    owner: object = None
    hashes: list[BlockHash] = field(factory=list)
    parts: list[Part] = field(factory=list)
    placed: list[BlockId] = field(factory=list)
    written: list[BlockId] = field(factory=list)
    num_tokens: int = 0
    loading: int = 0
    failed: bool = False
    is_over: bool = False
    held: list[BlockId] = field(factory=list)
