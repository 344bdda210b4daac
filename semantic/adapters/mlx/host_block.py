"""A block's arrays in host memory, by name: what was sealed, or what came from the store."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from semantic.adapters.mlx.spare_memory import fresh
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

_NAME = re.compile(r"layers\.[0-9]{1,6}\..")


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
        header = self._layout.headers[name]
        return np.ndarray(header.shape, DTYPES[header.dtype], self._memory, self._layout.starts[name])

    def dtype(self, name: str) -> str:
        """The name of its dtype."""
        return self._layout.headers[name].dtype

    def of_layers(self, layers: range) -> dict[str, HostArray]:
        """The arrays of layers that follow one another and have the same: each ``[layers, ...]``, by their own names.

        Those of a block from the store are views.
        """
        if self._memory.size and (views := self._layout.views(layers)):
            return {own: np.ndarray(buffer=self._memory, **view) for own, view in views.items()}
        names = self._layout.of_layers[layers.start]
        return {own: np.stack([self.array(f"layers.{i}.{own}") for i in layers]) for own in names}

    def tensors(self) -> list[Tensor]:
        """Views of all arrays."""
        return [Tensor(header, (_as_bytes(self.array(name)),)) for name, header in self._layout.headers.items()]

    def place(
        self, check: Callable[[tuple[TensorHeader, ...]], None], memory: Callable[[int], HostArray] = fresh
    ) -> Place:
        """Room for arrays from the store, so many bytes of ``memory``.

        ``check`` raises ``BlockDamagedError`` for arrays of another block.
        """

        def place(headers: Sequence[TensorHeader]) -> list[memoryview]:
            headers = tuple(headers)
            check(headers)
            self._layout = _layout_of(headers)
            self._memory = memory(self.nbytes)
            return [_as_bytes(self._memory)]

        return place


class _Layout:
    """What arrays there are, and where those lie that follow one another in one piece of memory."""

    def __init__(self) -> None:
        self.headers: dict[str, TensorHeader] = {}
        self.starts: dict[str, int] = {}
        self.of_layers: dict[int, dict[str, TensorHeader]] = {}
        self.nbytes = 0
        self._views: dict[range, dict[str, dict[str, Any]]] = {}

    def add(self, header: TensorHeader) -> None:
        self.headers[header.name], self.starts[header.name] = header, self.nbytes
        _, number, own = header.name.split(".", 2)
        self.of_layers.setdefault(int(number), {})[own] = header
        self.nbytes += header.nbytes

    def views(self, layers: range) -> dict[str, dict[str, Any]]:
        """How numpy sees each array of all these layers as one; empty where they don't lie equally far apart."""
        if layers not in self._views:
            self._views[layers] = self._found(layers)
        return self._views[layers]

    def _found(self, layers: range) -> dict[str, dict[str, Any]]:
        views = {}
        for own, header in self.of_layers[layers.start].items():
            starts = [self.starts[f"layers.{i}.{own}"] for i in layers]
            step = starts[-1] - starts[-2] if len(starts) > 1 else 0
            if any(start != starts[0] + i * step for i, start in enumerate(starts)):
                return {}
            one = np.empty(header.shape, DTYPES[header.dtype])
            views[own] = {
                "shape": (len(layers), *one.shape),
                "dtype": one.dtype,
                "offset": starts[0],
                "strides": (step, *one.strides),
            }
        return views


@lru_cache(maxsize=64)
def _layout_of(headers: tuple[TensorHeader, ...]) -> _Layout:
    """Shared by all blocks that hold the same arrays, as most blocks of a model do."""
    if any(header.dtype not in DTYPES or not _NAME.match(header.name) for header in headers):
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
