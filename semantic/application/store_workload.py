"""Work for stores under test: blocks whose contents follow from their names, and what must be there after each call."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from semantic.application.ports.block_store import (
    BlockStore,
    BlockToSave,
    Scratch,
    StoredBlock,
    Tensor,
    TensorHeader,
)
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import AgentKind, AgentRecord, block_hash, pack_tokens

CONTEXT = "e" * 64
"""The context of all of these blocks."""

_BLOCK_TOKENS = 256
_CHAIN_BLOCKS = 4
_ROOT = BlockHash(b"\x07" * 32)


Call = Callable[[BlockStore], object]


@frozen
class Operation:
    """One call, and what the store holds when it has returned: these blocks, and the agent at this turn (0: none)."""

    name: str
    call: Call
    published: frozenset[BlockHash]
    turns: int


def operations(block_bytes: int) -> Iterator[Operation]:
    """Saves of chains, an agent's turns on them, and deletions, without end; always the same."""
    published: frozenset[BlockHash] = frozenset()
    for number in itertools.count():
        chain = blocks(number, _CHAIN_BLOCKS, block_bytes)
        names = [block.block.hash for block in chain]
        yield Operation("save one", _saving(chain[:1]), published | {names[0]}, number)
        published |= set(names)
        yield Operation("save three", _saving(chain[1:]), published, number)
        yield Operation("commit a turn", _committing(number + 1, names), published, number + 1)
        published -= {names[-1]}
        yield Operation("delete one", _deleting(names[-1]), published, number + 1)


def blocks(chain: int, count: int, block_bytes: int) -> list[BlockToSave]:
    """The first blocks of a chain of this number, one behind the other."""
    made: list[BlockToSave] = []
    parent = _ROOT
    for index in range(count):
        tokens = pack_tokens([chain, *range(index, index + _BLOCK_TOKENS - 1)])
        name = block_hash(parent, tokens)
        start = index * _BLOCK_TOKENS
        stored = StoredBlock(hash=name, parent=parent, context=CONTEXT, start=start, tokens=tokens)
        made.append(BlockToSave(stored, [_tensor(name, block_bytes)]))
        parent = name
    return made


def holds_what_was_saved(store: BlockStore, block_hash: BlockHash) -> bool:
    """Whether a block of :func:`blocks` is as it was saved. Raises ``BlockMissingError``, ``BlockDamagedError``."""
    scratch = Scratch()
    store.load(block_hash, scratch)
    return all(b"".join(tensor.pieces) == _contents(block_hash, tensor.nbytes) for tensor in scratch.tensors)


def _tensor(name: BlockHash, nbytes: int) -> Tensor:
    whole = memoryview(bytearray(_contents(name, nbytes)))
    return Tensor(TensorHeader("layers.0.keys", "U8", (nbytes,)), (whole[: nbytes // 3], whole[nbytes // 3 :]))


def _contents(name: BlockHash, nbytes: int) -> bytes:
    return (name * (nbytes // len(name) + 1))[:nbytes]


def _saving(blocks: Sequence[BlockToSave]) -> Call:
    return lambda store: store.save(blocks)


def _deleting(name: BlockHash) -> Call:
    return lambda store: store.delete([name])


def _committing(turns: int, names: Sequence[BlockHash]) -> Call:
    record = AgentRecord(
        namespace="default", name="writer", model="f" * 64, model_name="none", kind=AgentKind.TEXT, turns=turns
    )
    return lambda store: store.save_agent(record, names)
