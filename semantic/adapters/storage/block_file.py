"""A block as a safetensors file: written from the memory it lies in, read into the memory it shall lie in.

Eight bytes with the header's length, a header in JSON padded with spaces to a multiple of eight, the arrays one
behind the other. ``docs/store-format.md`` has the details.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from xxhash import xxh3_128

from semantic.adapters.storage.filesystem import NewFile, OpenFile, in_groups
from semantic.adapters.storage.published import Published
from semantic.application.ports.block_store import (
    ITEM_BYTES,
    BlockToSave,
    Place,
    StoredBlock,
    Tensor,
    TensorHeader,
)
from semantic.domain.errors import BlockDamagedError
from semantic.domain.identifiers import BlockHash

BLOCK_FORMAT = 1
"""Raised when a reader of the previous version could misread a file."""

_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 16 * 1024 * 1024


def encode_header(block: BlockToSave) -> bytes:
    """The file's first bytes, up to its arrays."""
    entries: dict[str, Any] = {"__metadata__": _metadata(block.block)}
    start = 0
    for tensor in block.tensors:
        header, end = tensor.header, start + tensor.nbytes
        assert tensor.nbytes == header.nbytes, f"{header} and {tensor.nbytes} bytes of memory"
        entries[header.name] = {"dtype": header.dtype, "shape": header.shape, "data_offsets": (start, end)}
        start = end
    text = _as_json(entries)
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def write_block(file: NewFile, header: bytes, tensors: Iterable[Tensor]) -> str:
    """Write the whole file, copying nothing. Returns its checksum."""
    digest = xxh3_128()

    def pieces() -> Iterator[memoryview]:
        for piece in (memoryview(header), *(piece for tensor in tensors for piece in tensor.pieces)):
            digest.update(piece)
            yield piece

    file.write(pieces())
    return digest.hexdigest()


def read_block(file: OpenFile, published: Published, place: Place) -> None:
    """Read the arrays into the memory that ``place`` gives, once, and verify what was read.

    Raises ``BlockDamagedError`` unless every byte is the one that was written for this very block.
    """
    if file.size != published.nbytes:
        raise BlockDamagedError(f"it has {file.size} bytes where {published.nbytes} were written")
    head = _read_head(file)
    digest = xxh3_128(head)
    memory = place(_parse(head, published))
    assert sum(piece.nbytes for piece in memory) == file.size - len(head), "place gave other memory"
    offset = len(head)
    for group in in_groups(memory):
        offset += file.read(group, offset)
        for piece in group:
            digest.update(piece)
    if offset != file.size:
        raise BlockDamagedError("it was cut short while it was read")
    if digest.hexdigest() != published.checksum:
        raise BlockDamagedError(f"its checksum is {digest.hexdigest()} where {published.checksum} was written")


def _metadata(block: StoredBlock) -> dict[str, str]:
    return {
        "semantic_format": str(BLOCK_FORMAT),
        "hash": block.hash.hex(),
        "parent": block.parent.hex(),
        "context": block.context,
        "start": str(block.start),
        "tokens": block.tokens.hex(),
        "has_state": "true" if block.has_state else "false",
    }


def _read_head(file: OpenFile) -> bytes:
    length = bytearray(_LENGTH_BYTES)
    file.read([memoryview(length)], 0)
    num_bytes = int.from_bytes(length, "little")
    if num_bytes > min(_MOST_HEADER_BYTES, file.size - _LENGTH_BYTES):
        raise BlockDamagedError(f"its header would be {num_bytes} bytes")
    text = bytearray(num_bytes)
    file.read([memoryview(text)], _LENGTH_BYTES)
    return bytes(length + text)


def parse_block(data: bytes) -> BlockToSave:
    """A block from the bytes of a whole file that were verified before; its arrays are views of them."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    entries = _from_json(data[_LENGTH_BYTES:start])
    try:
        metadata = entries.pop("__metadata__")
        block = StoredBlock(
            hash=BlockHash(bytes.fromhex(metadata["hash"])),
            parent=BlockHash(bytes.fromhex(metadata["parent"])),
            context=metadata["context"],
            start=int(metadata["start"]),
            tokens=bytes.fromhex(metadata["tokens"]),
            has_state=metadata["has_state"] == "true",
        )
    except (KeyError, ValueError, TypeError) as exc:
        raise BlockDamagedError(f"its header is not one of ours: {exc!r}") from exc
    view = memoryview(data)[start:]
    offset, tensors = 0, []
    for header in _headers(entries, len(view)):
        tensors.append(Tensor(header, (view[offset : offset + header.nbytes],)))
        offset += header.nbytes
    return BlockToSave(block, tensors)


def _parse(head: bytes, published: Published) -> tuple[TensorHeader, ...]:
    """The arrays in the order of their bytes, if this is the block that was published."""
    text, metadata = head[_LENGTH_BYTES:], b'{"__metadata__":' + _as_json(_metadata(published.block))
    if not text.startswith(metadata):
        raise BlockDamagedError("its header is that of another block, or of another format")
    return _headers_behind_metadata(text[len(metadata) :].rstrip(b" "), published.nbytes - len(head))


@lru_cache(maxsize=64)
def _headers_behind_metadata(text: bytes, num_bytes: int) -> tuple[TensorHeader, ...]:
    """Kept, for most blocks of a model have the same: to take hundreds of headers apart costs more than reading
    their arrays, above all when it sets off the garbage collector.
    """
    return _headers(_from_json(b"{" + text.removeprefix(b",")), num_bytes)


def _headers(entries: Mapping[str, Any], num_bytes: int) -> tuple[TensorHeader, ...]:
    """The arrays that a header names: they follow one another without gap or overlap, to the end of the file."""
    try:
        arrays = [_entry(name, **entry) for name, entry in entries.items()]
    except (ValueError, TypeError) as exc:
        raise BlockDamagedError(f"its header is not one of ours: {exc!r}") from exc
    start = 0
    for header, offsets in arrays:
        end = start + header.nbytes
        if offsets != [start, end]:
            raise BlockDamagedError(f"{header.name} lies at {offsets}, its place is [{start}, {end}]")
        start = end
    if start != num_bytes:
        raise BlockDamagedError(f"its arrays are {num_bytes} bytes where its header says {start}")
    return tuple(header for header, _ in arrays)


def _entry(name: str, *, dtype: str, shape: list[int], data_offsets: list[int]) -> tuple[TensorHeader, list[int]]:
    header = TensorHeader(name, dtype, tuple(shape))
    if dtype not in ITEM_BYTES or not all(type(number) is int and number >= 0 for number in shape):
        raise ValueError(f"{header}")
    return header, data_offsets


def _as_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _from_json(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BlockDamagedError(f"its header is not one of ours: {exc!r}") from exc
    if not isinstance(content, dict):
        raise BlockDamagedError(f"its header is {type(content).__name__}, not an object")
    return content
