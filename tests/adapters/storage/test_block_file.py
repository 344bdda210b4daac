"""The file of a block: readable by anyone who reads safetensors, and never believed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from stored_blocks import CONTEXT, ROOT, Reader, chain, written
from xxhash import xxh3_128

from semantic.adapters.storage.block_file import encode_header, read_block, write_block
from semantic.adapters.storage.filesystem import OsFileSystem
from semantic.adapters.storage.published import Published
from semantic.application.ports.block_store import BlockToSave, Scratch, Tensor, TensorHeader
from semantic.domain.errors import BlockDamagedError

(BLOCK,) = chain([1, 70_000])


def write(path: Path, block: BlockToSave = BLOCK) -> Published:
    header = encode_header(block)
    with OsFileSystem().create(path) as file:
        checksum = write_block(file, header, block.tensors)
    return Published(block.block, path.stat().st_size, checksum)


def read(path: Path, published: Published) -> dict[str, bytes]:
    reader = Reader()
    with OsFileSystem().open(path) as file:
        read_block(file, published, reader)
    return {name: bytes(content) for name, content in reader.content.items()}


def array_of(dtype: str, array: Any) -> Tensor:
    return Tensor(TensorHeader(dtype, dtype, array.shape), (memoryview(array.tobytes()),))


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    published = write(tmp_path / "block.safetensors")
    assert read(tmp_path / "block.safetensors", published) == written(BLOCK)


def test_the_checksum_is_xxh3_of_the_whole_file(tmp_path: Path) -> None:
    published = write(tmp_path / "block.safetensors")
    assert published.checksum == xxh3_128((tmp_path / "block.safetensors").read_bytes()).hexdigest()


def test_the_header_is_padded_and_says_what_the_block_is(tmp_path: Path) -> None:
    write(tmp_path / "block.safetensors")
    content = (tmp_path / "block.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length]) == {
        "__metadata__": {
            "semantic_format": "1",
            "hash": BLOCK.block.hash.hex(),
            "parent": ROOT.hex(),
            "context": CONTEXT,
            "start": "0",
            "tokens": "0100000070110100",
            "has_state": "false",
        },
        "layers.0.keys": {"dtype": "F32", "shape": [5, 100], "data_offsets": [0, 2000]},
        "layers.0.values": {"dtype": "F32", "shape": [5, 100], "data_offsets": [2000, 4000]},
    }


def test_safetensors_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "block.safetensors")
    with safe_open(tmp_path / "block.safetensors", framework="numpy") as file:
        assert file.metadata()["hash"] == BLOCK.block.hash.hex()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {name: array.tobytes() for name, array in arrays.items()} == written(BLOCK)
    assert arrays["layers.0.keys"].shape == (5, 100)


def test_arrays_of_every_width_are_read_by_safetensors(tmp_path: Path) -> None:
    numpy_names = {"U8": "u1", "I16": "i2", "U32": "u4", "F16": "f2", "F32": "f4", "I64": "i8", "BOOL": "?"}
    arrays = {dtype: np.arange(6).reshape(2, 3).astype(code) for dtype, code in numpy_names.items()}
    arrays["F32"] = arrays["F32"][:0]
    write(tmp_path / "odd.safetensors", BlockToSave(BLOCK.block, [array_of(*item) for item in arrays.items()]))
    with safe_open(tmp_path / "odd.safetensors", framework="numpy") as file:
        for name, array in arrays.items():
            assert np.array_equal(file.get_tensor(name), array)


@pytest.mark.mlx
def test_mlx_reads_it(tmp_path: Path) -> None:
    import mlx.core as mx

    write(tmp_path / "block.safetensors")
    arrays, metadata = mx.load(str(tmp_path / "block.safetensors"), return_metadata=True)
    assert {name: np.array(array).tobytes() for name, array in arrays.items()} == written(BLOCK)
    assert metadata["semantic_format"] == "1"


def test_a_block_without_arrays_is_a_block(tmp_path: Path) -> None:
    published = write(tmp_path / "empty.safetensors", BlockToSave(BLOCK.block, ()))
    assert read(tmp_path / "empty.safetensors", published) == {}


def test_one_flipped_bit_anywhere_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "block.safetensors"
    published = write(path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 23):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(BlockDamagedError):
            read(path, published)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, 4000])
def test_a_file_that_is_cut_short_is_damage(tmp_path: Path, length: int) -> None:
    path = tmp_path / "block.safetensors"
    published = write(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BlockDamagedError, match=f"it has {length} bytes"):
        read(path, published)
    with pytest.raises(BlockDamagedError):
        read(path, Published(published.block, length, published.checksum))


GOOD = json.loads(encode_header(BLOCK)[8:])
KEYS = {"dtype": "F32", "shape": [5, 100], "data_offsets": [0, 2000]}


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"__metadata__": ' + b"9" * 5000 + b"}",
        {},
        {"__metadata__": None},
        {**GOOD, "__metadata__": {**GOOD["__metadata__"], "semantic_format": "2"}},
        {**GOOD, "__metadata__": {**GOOD["__metadata__"], "parent": "00" * 32}},
        {**GOOD, "layers.0.keys": []},
        {**GOOD, "layers.0.keys": {}},
        {**GOOD, "layers.0.keys": {**KEYS, "more": 1}},
        {**GOOD, "layers.0.keys": {**KEYS, "dtype": "F31"}},
        {**GOOD, "layers.0.keys": {**KEYS, "dtype": ["F32"]}},
        {**GOOD, "layers.0.keys": {**KEYS, "dtype": "F64"}},
        {**GOOD, "layers.0.keys": {**KEYS, "shape": [-5, -100]}},
        {**GOOD, "layers.0.keys": {**KEYS, "shape": [5.0, 100]}},
        {**GOOD, "layers.0.keys": {**KEYS, "shape": [True, 500]}},
        {**GOOD, "layers.0.keys": {**KEYS, "shape": None}},
        {**GOOD, "layers.0.keys": {**KEYS, "shape": [10**30]}},
        {**GOOD, "layers.0.keys": {**KEYS, "data_offsets": [0, 2001]}},
        {**GOOD, "layers.0.keys": {**KEYS, "data_offsets": [8, 2008]}},
        {**GOOD, "layers.0.keys": {**KEYS, "data_offsets": None}},
        {**GOOD, "layers.0.values": {**KEYS, "data_offsets": [0, 2000]}},
        {**GOOD, "layers.0.values": {**KEYS, "data_offsets": [1000, 3000]}},
        {**GOOD, "more": {"dtype": "U8", "shape": [1], "data_offsets": [4000, 4001]}},
    ],
    ids=lambda header: str(header)[:30],
)
def test_a_header_is_not_believed_even_if_length_and_checksum_fit(tmp_path: Path, header: Any) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(4000)
    (tmp_path / "bad").write_bytes(content)
    with OsFileSystem().open(tmp_path / "bad") as file, pytest.raises(BlockDamagedError):
        read_block(file, Published(BLOCK.block, len(content), xxh3_128(content).hexdigest()), Scratch())


@pytest.mark.parametrize("length", [4993, 2**24 + 1, 2**63, 2**64 - 1])
def test_an_absurd_length_of_the_header_is_damage(tmp_path: Path, length: int) -> None:
    content = length.to_bytes(8, "little") + bytes(4992)
    (tmp_path / "bad").write_bytes(content)
    with OsFileSystem().open(tmp_path / "bad") as file, pytest.raises(BlockDamagedError, match=str(length)):
        read_block(file, Published(BLOCK.block, len(content), xxh3_128(content).hexdigest()), Scratch())
