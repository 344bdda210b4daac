"""Small blocks and agents for the tests of stores."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from semantic.application.ports.block_store import BlockStore, BlockToSave, StoredBlock, Tensor, TensorHeader
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import (
    AgentKind,
    AgentRecord,
    ChatOptions,
    Checkpoint,
    HistoryEntry,
    block_hash,
    pack_tokens,
)

ROOT = BlockHash(b"\x11" * 32)
CONTEXT = "c" * 64
PAYLOAD = 4000
"""Bytes of a block's arrays."""

FILE = 4600
"""A little more than a block takes as a file, with its header."""


def chain(*token_runs: Sequence[int], parent: BlockHash = ROOT, context: str = CONTEXT) -> list[BlockToSave]:
    """Blocks of these tokens one behind the other, each of two arrays in several pieces that tell it apart."""
    blocks = []
    start = 0
    for run in token_runs:
        tokens = pack_tokens(run)
        name = block_hash(parent, tokens)
        block = StoredBlock(hash=name, parent=parent, context=context, start=start, tokens=tokens)
        blocks.append(BlockToSave(block, (tensor("layers.0.keys", name, 2), tensor("layers.0.values", name, 3))))
        parent, start = name, start + len(run)
    return blocks


def tensor(name: str, content: bytes, pieces: int) -> Tensor:
    """2,000 bytes that ``content`` decides, in ``pieces`` pieces of unlike length."""
    whole = memoryview(bytearray((content * 100)[len(name) : len(name) + PAYLOAD // 2]))
    bounds = [0, *(100 * number for number in range(1, pieces)), len(whole)]
    cuts = [whole[start:end] for start, end in pairwise(bounds)]
    return Tensor(TensorHeader(name, "F32", (5, 100)), tuple(cuts))


class Reader:
    """A place for what is read; afterwards ``content`` are the arrays, by name."""

    def __init__(self) -> None:
        self.content: dict[str, bytearray] = {}

    def __call__(self, headers: Sequence[TensorHeader]) -> list[memoryview]:
        self.content = {header.name: bytearray(PAYLOAD // 2) for header in headers}
        return [piece for header in headers for piece in self._pieces(header.name)]

    def _pieces(self, name: str) -> tuple[memoryview, ...]:
        whole = memoryview(self.content[name])
        return whole[:7], whole[7:1000], whole[1000:]


def read(store: BlockStore, block_hash: BlockHash) -> dict[str, bytes]:
    reader = Reader()
    store.load(block_hash, reader)
    return {name: bytes(content) for name, content in reader.content.items()}


def written(block: BlockToSave) -> dict[str, bytes]:
    return {tensor.header.name: b"".join(tensor.pieces) for tensor in block.tensors}


def names(blocks: Sequence[BlockToSave]) -> list[BlockHash]:
    return [block.block.hash for block in blocks]


def record(name: str = "alice", **changes: Any) -> AgentRecord:
    fields: dict[str, Any] = {
        "namespace": "default",
        "name": name,
        "model": "f" * 64,
        "model_name": "tiny",
        "kind": AgentKind.CHAT,
        "token_ids": (1, 2, 70_000),
        "history": (HistoryEntry(role="user", content="Grüße \ud800 🦜", end=2),),
        "checkpoints": (Checkpoint(label="start", num_tokens=2, num_entries=1),),
        "turns": 1,
        "updated_at": "2026-11-26T10:00:00+00:00",
        "chat": ChatOptions.of([{"type": "function", "description": "Grüße \ud800 🦜"}], {"enable_thinking": False}),
    }
    return AgentRecord(**{**fields, **changes})
