"""A block's arrays in host memory, by name: what was sealed, or what came from the store."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from semantic.application.ports.block_store import Place, Tensor, TensorHeader
from semantic.domain.errors import BlockDamagedError

HostArray = npt.NDArray[Any]

DTYPES: dict[str, Any] = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,  # numpy has no such type; the bits are kept as they are
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "I32": np.int32,
    "I64": np.int64,
    "BOOL": np.bool_,
}
"""numpy's types by safetensors' names."""


class HostBlock:
    """Arrays of ``num_tokens`` tokens, each with its dtype's name; immutable once it is filled.

    What comes from the store is one piece of memory, of which arrays are views that are made when they are asked for:
    to make hundreds at once takes longer than to read them.
    """

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens
        self._layout = _Layout()
        self._arrays: dict[str, HostArray] = {}
        self._memory: HostArray = np.empty(0, np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self._layout.nbytes

    def __contains__(self, name: str) -> bool:
        return name in self._layout.headers

    def put(self, name: str, dtype: str, array: HostArray) -> None:
        """Add an array, which nobody else changes any more."""
        assert not self._memory.size, "a block from the store is complete"
        self._layout.add(TensorHeader(name, dtype, array.shape))
        self._arrays[name] = array

    def array(self, name: str) -> HostArray:
        """The array of this name."""
        if name in self._arrays:
            return self._arrays[name]
        header, start = self._layout.headers[name], self._layout.starts[name]
        flat: HostArray = self._memory[start : start + header.nbytes].view(DTYPES[header.dtype])
        return flat.reshape(header.shape)

    def dtype(self, name: str) -> str:
        """The name of its dtype."""
        return self._layout.headers[name].dtype

    def of_layer(self, index: int) -> Mapping[str, HostArray]:
        """The arrays of one layer, ``layers.<index>.<name>``, by their own names."""
        names = self._layout.of_layers[f"layers.{index}"]
        return {own: self.array(name) for own, name in names.items()}

    def tensors(self) -> list[Tensor]:
        """Views of all arrays."""
        return [Tensor(header, (_as_bytes(self.array(name)),)) for name, header in self._layout.headers.items()]

    def place(self, check: Callable[[tuple[TensorHeader, ...]], None]) -> Place:
        """Room for arrays from the store. ``check`` raises ``BlockDamagedError`` for arrays of another block."""

        def place(headers: Sequence[TensorHeader]) -> list[memoryview]:
            headers = tuple(headers)
            check(headers)
            self._layout = _layout_of(headers)
            self._memory = np.empty(self.nbytes, np.uint8)
            return [_as_bytes(self._memory)]

        return place


class _Layout:
    """What arrays there are, and where those lie that follow one another in one piece of memory."""

    def __init__(self) -> None:
        self.headers: dict[str, TensorHeader] = {}
        self.starts: dict[str, int] = {}
        self.of_layers: dict[str, dict[str, str]] = {}
        self.nbytes = 0

    def add(self, header: TensorHeader) -> None:
        self.headers[header.name], self.starts[header.name] = header, self.nbytes
        layers, number, own = header.name.split(".", 2)
        self.of_layers.setdefault(f"{layers}.{number}", {})[own] = header.name
        self.nbytes += header.nbytes


@lru_cache(maxsize=64)
def _layout_of(headers: tuple[TensorHeader, ...]) -> _Layout:
    """Shared by all blocks that hold the same arrays, as most blocks of a model do."""
    if any(header.dtype not in DTYPES or header.name.count(".") < 2 for header in headers):
        raise BlockDamagedError(f"the block has arrays of types or names that are not kept: {list(headers)}")
    layout = _Layout()
    for header in headers:
        layout.add(header)
    return layout


def expect(headers: Sequence[TensorHeader], expected: Sequence[TensorHeader]) -> None:
    """Raise ``BlockDamagedError`` naming the first difference."""
    if list(headers) != list(expected):
        raise BlockDamagedError(f"the block holds {unlike(headers, expected)}")


def unlike(found: Sequence[TensorHeader], expected: Sequence[TensorHeader]) -> str:
    """The first difference between two lists of headers, for a message."""
    for ours, theirs in zip(expected, found, strict=False):
        if ours != theirs:
            return f"{_text(theirs)}, expected {_text(ours)}"
    return f"{len(found)} arrays, expected {len(expected)}"


def _text(header: TensorHeader) -> str:
    return f"{header.name} {header.dtype}{list(header.shape)}"


def _as_bytes(array: HostArray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
