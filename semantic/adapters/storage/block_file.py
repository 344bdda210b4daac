"""A block as a safetensors file: written from the memory it lies in, read into the memory it shall lie in.

Eight bytes with the header's length, a header in JSON padded with spaces to a multiple of eight, the arrays one
behind the other. ``docs/store-format.md`` has the details.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen
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
    text = json.dumps(entries, separators=(",", ":")).encode()
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
    tensors = place(_parse(head, published))
    assert sum(tensor.nbytes for tensor in tensors) == file.size - len(head), "place gave other memory"
    offset = len(head)
    for group in in_groups(piece for tensor in tensors for piece in tensor.pieces):
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
    metadata, arrays = _entries(data[:start])
    _check_offsets(arrays, len(data) - start)
    try:
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
    return BlockToSave(block, [Tensor(array.header, (view[slice(*array.offsets)],)) for array in arrays])


def _parse(head: bytes, published: Published) -> list[TensorHeader]:
    """The arrays in the order of their bytes, if this is the block that was published."""
    metadata, arrays = _entries(head)
    if metadata != _metadata(published.block):
        raise BlockDamagedError("its header is that of another block, or of another format")
    _check_offsets(arrays, published.nbytes - len(head))
    return [array.header for array in arrays]


def _entries(head: bytes) -> tuple[dict[str, str], list["_Array"]]:
    try:
        entries = json.loads(head[_LENGTH_BYTES:])
        metadata = entries.pop("__metadata__")
        return metadata, [_entry(name, **entry) for name, entry in entries.items()]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as exc:
        raise BlockDamagedError(f"its header is not one of ours: {exc!r}") from exc


@frozen
class _Array:
    header: TensorHeader
    offsets: list[int]


def _entry(name: str, *, dtype: str, shape: list[int], data_offsets: list[int]) -> _Array:
    header = TensorHeader(name, dtype, tuple(shape))
    if dtype not in ITEM_BYTES or not all(type(number) is int and number >= 0 for number in shape):
        raise ValueError(f"{header}")
    return _Array(header, data_offsets)


def _check_offsets(arrays: Sequence[_Array], num_bytes: int) -> None:
    """Arrays follow one another without gap or overlap, to the end of the file."""
    start = 0
    for array in arrays:
        end = start + array.header.nbytes
        if array.offsets != [start, end]:
            raise BlockDamagedError(f"{array.header.name} lies at {array.offsets}, its place is [{start}, {end}]")
        start = end
    if start != num_bytes:
        raise BlockDamagedError(f"its arrays are {num_bytes} bytes where its header says {start}")
