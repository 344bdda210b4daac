"""A block's arrays in host memory, by name: what was sealed, or what came from the store."""

from collections.abc import Callable, Mapping, Sequence
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
    """Arrays of ``num_tokens`` tokens, each with its dtype's name; immutable once it is filled."""

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens
        self._arrays: dict[str, tuple[str, HostArray]] = {}
        self._of_layers: dict[str, dict[str, HostArray]] = {}
        self.nbytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def put(self, name: str, dtype: str, array: HostArray) -> None:
        """Add an array, which nobody else changes any more."""
        self._arrays[name] = dtype, array
        layers, number, own = name.split(".", 2)
        self._of_layers.setdefault(f"{layers}.{number}", {})[own] = array
        self.nbytes += array.nbytes

    def array(self, name: str) -> HostArray:
        """The array of this name."""
        return self._arrays[name][1]

    def dtype(self, name: str) -> str:
        """The name of its dtype."""
        return self._arrays[name][0]

    def of_layer(self, index: int) -> Mapping[str, HostArray]:
        """The arrays of one layer, ``layers.<index>.<name>``, by their own names."""
        return self._of_layers[f"layers.{index}"]

    def tensors(self) -> list[Tensor]:
        """Views of all arrays."""
        return [
            Tensor(TensorHeader(name, dtype, array.shape), (_as_bytes(array),))
            for name, (dtype, array) in self._arrays.items()
        ]

    def place(self, check: Callable[[Sequence[TensorHeader]], None]) -> Place:
        """Room for arrays from the store. ``check`` raises ``BlockDamagedError`` for arrays of another block."""

        def place(headers: Sequence[TensorHeader]) -> list[Tensor]:
            if any(header.dtype not in DTYPES for header in headers):
                raise BlockDamagedError(f"the block has arrays of types that are not kept: {list(headers)}")
            check(headers)
            for header in headers:
                empty: HostArray = np.empty(header.shape, DTYPES[header.dtype])
                self.put(header.name, header.dtype, empty)
            return self.tensors()

        return place


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
