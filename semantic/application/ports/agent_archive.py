"""One file that carries an agent to another machine."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from attrs import frozen

from semantic.application.ports.block_store import BlockToSave
from semantic.domain.value_objects.agent_record import AgentRecord


@frozen
class ArchivedAgent:
    """What the file says of the agent: its record, and the digest of the context that its blocks were computed in."""

    record: AgentRecord
    context: str


class AgentArchive(Protocol):
    """Writes and reads such files. Everything in them is checked against its checksum before it is used."""

    def write(self, path: Path, agent: ArchivedAgent, blocks: Iterable[BlockToSave]) -> None:
        """Write the file, whole or not at all; the blocks are taken one after the other.

        Raises :class:`~semantic.domain.errors.AgentFileError` where the disk refuses.
        """

    def read(self, path: Path) -> ArchivedAgent:
        """The agent, after every byte of the file was verified.

        Raises :class:`~semantic.domain.errors.AgentFileError` if it is damaged, of a newer version, or no such file.
        """

    def blocks(self, path: Path) -> Iterator[BlockToSave]:
        """The blocks, parents first, each verified again as it is read; their memory is the reader's."""
