"""An agent as one file: an uncompressed zip archive of its blocks, its tokens and its record, each with a checksum.

blocks/<n>.safetensors   a block as the store writes it (docs/store-format.md), parents first
tokens                   the token ids, packed
agent.json               record, context, and for each other member its length and XXH3
checksum                 XXH3 of agent.json, written last
"""

import json
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xxhash import xxh3_128, xxh3_128_hexdigest

from semantic.adapters.atomic import replacing
from semantic.adapters.storage.agent_json import decode_record, encode_record
from semantic.adapters.storage.block_file import encode_header, parse_block
from semantic.application.ports.agent_archive import ArchivedAgent
from semantic.application.ports.block_store import BlockToSave
from semantic.domain.errors import AgentFileError

FORMAT = 1


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
        with _opened(path) as archive:
            facts = _facts(archive)
            for name, expected in facts["members"].items():
                if _checksum(archive, name) != expected:
                    raise ValueError(f"{name} is not what was written")
            tokens = _verified(archive, "tokens", facts["members"]["tokens"])
            return ArchivedAgent(decode_record(json.dumps(facts["record"]), tokens), str(facts["context"]))

    def blocks(self, path: Path) -> Iterator[BlockToSave]:
        """The blocks, one in memory at a time."""
        with _opened(path) as archive:
            for name, expected in _facts(archive)["members"].items():
                if name.startswith("blocks/"):
                    yield parse_block(_verified(archive, name, expected))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive. Of a damaged one zipfile may raise almost anything."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except AgentFileError as error:
        raise AgentFileError(f"{path} {error}") from error
    except Exception as error:
        raise AgentFileError(f"{path} is damaged, or no file of an agent: {error}; export it again") from error


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
        raise AgentFileError(f"has format {facts['format']} and this version reads {FORMAT}; upgrade semantic-kv")
    return facts


def _verified(archive: zipfile.ZipFile, name: str, expected: str) -> bytes:
    content = archive.read(name)
    if xxh3_128_hexdigest(content) != expected:
        raise ValueError(f"{name} is not what was written")
    return content


def _checksum(archive: zipfile.ZipFile, name: str) -> str:
    digest = xxh3_128()
    with archive.open(name) as member:
        while chunk := member.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
