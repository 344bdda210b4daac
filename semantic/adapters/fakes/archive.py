"""Agents' files, in memory."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
from attrs import define, field

from semantic.application.ports.agent_archive import ArchivedAgent
from semantic.application.ports.block_store import BlockToSave, Tensor
from semantic.domain.errors import AgentFileError


@define
class MemoryArchive:
    """Keeps what was written by path. ``damaged`` paths can't be read."""

    files: dict[Path, tuple[ArchivedAgent, list[BlockToSave]]] = field(factory=dict)
    damaged: set[Path] = field(factory=set)

    def write(self, path: Path, agent: ArchivedAgent, blocks: Iterable[BlockToSave]) -> None:
        """Copy it all."""
        self.files[path] = agent, [_copied(block) for block in blocks]

    def read(self, path: Path) -> ArchivedAgent:
        """The agent."""
        if path not in self.files or path in self.damaged:
            raise AgentFileError(f"{path} is no file of an agent, or damaged")
        return self.files[path][0]

    def blocks(self, path: Path) -> Iterator[BlockToSave]:
        """Its blocks."""
        self.read(path)
        yield from self.files[path][1]


def _copied(block: BlockToSave) -> BlockToSave:
    tensors = [Tensor(one.header, (memoryview(bytearray(b"".join(one.pieces))),)) for one in block.tensors]
    return attrs.evolve(block, tensors=tensors)
