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
        self._headers: dict[str, TensorHeader] = {}
        self._arrays: dict[str, HostArray] = {}
        self._of_layers: dict[str, dict[str, HostArray]] = {}
        self.nbytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def put(self, name: str, dtype: str, array: HostArray) -> None:
        """Add an array, which nobody else changes any more."""
        self._keep(TensorHeader(name, dtype, array.shape), array)

    def array(self, name: str) -> HostArray:
        """The array of this name."""
        return self._arrays[name]

    def dtype(self, name: str) -> str:
        """The name of its dtype."""
        return self._headers[name].dtype

    def of_layer(self, index: int) -> Mapping[str, HostArray]:
        """The arrays of one layer, ``layers.<index>.<name>``, by their own names."""
        return self._of_layers[f"layers.{index}"]

    def tensors(self) -> list[Tensor]:
        """Views of all arrays."""
        return [Tensor(header, (_as_bytes(self._arrays[name]),)) for name, header in self._headers.items()]

    def place(self, check: Callable[[Sequence[TensorHeader]], None]) -> Place:
        """Room for arrays from the store. ``check`` raises ``BlockDamagedError`` for arrays of another block."""

        def place(headers: Sequence[TensorHeader]) -> list[Tensor]:
            if any(header.dtype not in DTYPES for header in headers):
                raise BlockDamagedError(f"the block has arrays of types that are not kept: {list(headers)}")
            check(headers)
            # One piece of memory for all: hundreds of small ones take longer to find than to fill.
            memory = np.empty(sum(header.nbytes for header in headers), np.uint8)
            whole, tensors, start = _as_bytes(memory), [], 0
            for header in headers:
                end = start + header.nbytes
                self._keep(header, memory[start:end].view(DTYPES[header.dtype]).reshape(header.shape))
                tensors.append(Tensor(header, (whole[start:end],)))
                start = end
            return tensors

        return place

    def _keep(self, header: TensorHeader, array: HostArray) -> None:
        self._headers[header.name], self._arrays[header.name] = header, array
        layers, number, own = header.name.split(".", 2)
        self._of_layers.setdefault(f"{layers}.{number}", {})[own] = array
        self.nbytes += array.nbytes


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
