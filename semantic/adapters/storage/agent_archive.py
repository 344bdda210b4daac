"""An agent as one file: an uncompressed zip archive of its blocks, its tokens and its record, each with a checksum.

blocks/<n>.safetensors   a block as the store writes it (docs/store-format.md), parents first
tokens                   the token ids, packed
agent.json               record, context, and for each other member its length and XXH3
checksum                 XXH3 of agent.json, written last
"""

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from xxhash import xxh3_128, xxh3_128_hexdigest

from semantic.adapters.reports.atomic import replacing
from semantic.adapters.storage.agent_json import decode_record, encode_record
from semantic.adapters.storage.block_file import encode_header, parse_block
from semantic.application.ports.agent_archive import ArchivedAgent
from semantic.application.ports.block_store import BlockToSave
from semantic.domain.errors import AgentFileError, BlockDamagedError

FORMAT = 1

_WHAT_READING_RAISES = (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, NotImplementedError)


class FileArchive:
    """Fulfils ``AgentArchive`` with zip archives, which other programs can list and unpack."""

    def write(self, path: Path, agent: ArchivedAgent, blocks: Iterable[BlockToSave]) -> None:
        """Write to a temporary file beside ``path``, sync it, and put it in its place."""
        try:
            with replacing(path) as file:
                _write(file, agent, blocks)
        except OSError as error:
            raise AgentFileError(f"{path} can't be written: {error.strerror or error}") from error

    def read(self, path: Path) -> ArchivedAgent:
        """Read every member once and compare it with its checksum."""
        try:
            with zipfile.ZipFile(path) as archive:
                facts = _facts(archive)
                for name, expected in facts["members"].items():
                    if _checksum(archive, name) != expected:
                        raise AgentFileError(f"{path} is damaged: {name} is not what was written; export it again")
                record = decode_record(json.dumps(facts["record"]), archive.read("tokens"))
            return ArchivedAgent(record, str(facts["context"]))
        except _WHAT_READING_RAISES as error:
            raise AgentFileError(f"{path} is damaged, or no file of an agent: {error}") from error

    def blocks(self, path: Path) -> Iterator[BlockToSave]:
        """The blocks, one in memory at a time."""
        try:
            with zipfile.ZipFile(path) as archive:
                for name, expected in _facts(archive)["members"].items():
                    if name.startswith("blocks/"):
                        data = archive.read(name)
                        if xxh3_128_hexdigest(data) != expected:
                            raise BlockDamagedError(f"{name} is not what was written")
                        yield parse_block(data)
        except (*_WHAT_READING_RAISES, BlockDamagedError) as error:
            raise AgentFileError(f"{path} is damaged: {error}; export it again") from error


def _write(file: IO[bytes], agent: ArchivedAgent, blocks: Iterable[BlockToSave]) -> None:
    record, tokens = encode_record(agent.record)
    members: dict[str, str] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, block in enumerate(blocks):
            pieces: list[bytes | memoryview] = [encode_header(block)]
            pieces += [piece for tensor in block.tensors for piece in tensor.pieces]
            name = f"blocks/{number:06}.safetensors"
            members[name] = _put(archive, name, pieces)
        members["tokens"] = _put(archive, "tokens", [tokens])
        facts = {"format": FORMAT, "context": agent.context, "record": json.loads(record), "members": members}
        text = json.dumps(facts, indent=1).encode()
        archive.writestr("agent.json", text)
        archive.writestr("checksum", xxh3_128_hexdigest(text))


def _put(archive: zipfile.ZipFile, name: str, pieces: Iterable[bytes | memoryview]) -> str:
    digest = xxh3_128()
    with archive.open(name, "w", force_zip64=True) as member:
        for piece in pieces:
            digest.update(piece)
            member.write(piece)
    return digest.hexdigest()


def _facts(archive: zipfile.ZipFile) -> dict[str, Any]:
    text = archive.read("agent.json")
    if xxh3_128_hexdigest(text) != archive.read("checksum").decode():
        raise ValueError("agent.json is not what was written")
    facts: dict[str, Any] = json.loads(text)
    if facts["format"] > FORMAT:
        raise ValueError(f"it has format {facts['format']} and this version reads {FORMAT}; upgrade semantic-kv")
    return facts


def _checksum(archive: zipfile.ZipFile, name: str) -> str:
    digest = xxh3_128()
    with archive.open(name) as member:
        while chunk := member.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
