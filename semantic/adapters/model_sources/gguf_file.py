"""Reads and checks a GGUF file's header: metadata and the table of tensors.

mlx maps the file and trusts its header, so a truncated file is read past its end. Everything is therefore
checked here first. gguf-py's own reader is not used for it: it takes 2 s for a vocabulary of 49,000 tokens,
this 0.1 s. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3,
little-endian).
"""

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs import frozen
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from semantic.domain.errors import ModelDamagedError, UnsupportedArchitectureError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4


@frozen
class TensorInfo:
    """One tensor's entry. ``shape`` is row-major (``[rows, columns]``); ``offset`` counts from the file's
    start.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    nbytes: int


@frozen
class GgufFile:
    """A checked header: every tensor's bytes lie inside the file."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]

    @classmethod
    def read(cls, path: Path) -> "GgufFile":
        """Read the header. Raises ``ModelDamagedError`` for anything that is not a whole GGUF file."""
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                metadata, tensors = _Cursor(data).header()
        except ModelDamagedError as exc:
            raise ModelDamagedError(f"{path}: {exc}; fetch the file again") from exc
        except (struct.error, ValueError, UnicodeDecodeError, OverflowError) as exc:
            raise ModelDamagedError(f"{path} is not a whole GGUF file ({exc}); fetch it again") from exc
        return cls(path, metadata, tensors)

    @property
    def kinds(self) -> set[GGMLQuantizationType]:
        """The tensor types that occur."""
        return {tensor.kind for tensor in self.tensors.values()}

    def float32(self, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """One tensor in float32, dequantised by gguf-py. Raises ``UnsupportedArchitectureError`` where it
        cannot.
        """
        tensor = self.tensors[name]
        raw = np.fromfile(self.path, np.uint8, count=tensor.nbytes, offset=tensor.offset)
        try:
            values = dequantize(_typed(raw, tensor), tensor.kind)
        except NotImplementedError as exc:
            raise UnsupportedArchitectureError(
                f"{self.path}: tensor {name} is of type {tensor.kind.name}, which gguf-py cannot read; "
                "use a file quantised as Q8_0, Q6_K, Q5_K, Q4_K, Q4_0 or F16"
            ) from exc
        return np.ascontiguousarray(values, np.float32).reshape(tensor.shape)


def _typed(raw: np.ndarray[Any, Any], tensor: TensorInfo) -> np.ndarray[Any, Any]:
    if tensor.kind == GGMLQuantizationType.F32:
        return raw.view(np.float32)
    if tensor.kind == GGMLQuantizationType.F16:
        return raw.view(np.float16)
    return raw.reshape(*tensor.shape[:-1], -1)


class _Cursor:
    """Reads forward through the file; whatever lies past its end is an error."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def header(self) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
        if self._bytes(4) != b"GGUF":
            raise ModelDamagedError("this is no GGUF file: it does not start with GGUF")
        version = self._one("I")
        if version not in _VERSIONS:
            raise ModelDamagedError(f"GGUF version {version} is not one of {_VERSIONS}")
        num_tensors, num_entries = self._one("Q"), self._one("Q")
        metadata = {self._string(): self._value(self._one("I")) for _ in range(self._plausible(num_entries))}
        entries = [self._tensor() for _ in range(self._plausible(num_tensors))]
        alignment = int(metadata.get("general.alignment", 32))
        if alignment < 1:
            raise ModelDamagedError(f"its alignment is {alignment}")
        start = -(-self._at // alignment) * alignment
        return metadata, {entry.name: self._placed(entry, start) for entry in entries}

    def _tensor(self) -> TensorInfo:
        name = self._string()
        dimensions = self._one("I")
        if dimensions > _MAX_DIMENSIONS:
            raise ModelDamagedError(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(reversed([self._one("Q") for _ in range(dimensions)]))
        kind = GGMLQuantizationType(self._one("I"))
        block, block_bytes = GGML_QUANT_SIZES[kind]
        elements = math.prod(shape)
        if elements % block:
            raise ModelDamagedError(f"tensor {name!r} holds no whole number of {kind.name} blocks")
        return TensorInfo(name, shape, kind, self._one("Q"), elements // block * block_bytes)

    def _placed(self, tensor: TensorInfo, start: int) -> TensorInfo:
        end = start + tensor.offset + tensor.nbytes
        if end > len(self._data):
            raise ModelDamagedError(f"it is cut short: tensor {tensor.name!r} ends at byte {end} of {len(self._data)}")
        return attrs.evolve(tensor, offset=start + tensor.offset)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._one(self._scalar(kind))
        item, count = self._one("I"), self._plausible(self._one("Q"))
        if item in (_STRING, _ARRAY):
            return [self._value(item) for _ in range(count)]
        code = self._scalar(item)
        return list(struct.unpack(f"<{count}{code}", self._bytes(count * struct.calcsize(f"<{code}"))))

    @staticmethod
    def _scalar(kind: int) -> str:
        if kind not in _SCALARS:
            raise ModelDamagedError(f"it holds a metadata value of the unknown type {kind}")
        return _SCALARS[kind]

    def _plausible(self, count: int) -> int:
        """Every item takes at least one byte: a larger count is a broken one, not a reason to allocate."""
        if count > len(self._data) - self._at:
            raise ModelDamagedError(f"it announces {count} items and has {len(self._data) - self._at} bytes left")
        return count

    def _string(self) -> str:
        return self._bytes(self._one("Q")).decode("utf-8")

    def _one(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._bytes(struct.calcsize(f"<{code}")))[0]

    def _bytes(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise ModelDamagedError(f"its header is cut short at byte {len(self._data)}")
        self._at += count
        return piece
