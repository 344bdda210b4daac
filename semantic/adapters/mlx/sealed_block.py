"""What mlx_lm's own caches hold of some tokens, copied into host memory: a block that was sealed.

A plain key/value cache gives the rows of the block's tokens. Any other cache gives its whole state as it is at the
block's end; it can be taken up there and nowhere else.
"""

import json
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx_lm.models.cache import KVCache, RotatingKVCache

from semantic.application.ports.block_store import Place, Tensor, TensorHeader
from semantic.domain.errors import BlockDamagedError

HostArray = npt.NDArray[Any]

_DTYPES = {
    "F32": (mx.float32, np.float32),
    "F16": (mx.float16, np.float16),
    "BF16": (mx.bfloat16, np.uint16),
    "U8": (mx.uint8, np.uint8),
    "U16": (mx.uint16, np.uint16),
    "U32": (mx.uint32, np.uint32),
    "I32": (mx.int32, np.int32),
    "I64": (mx.int64, np.int64),
    "BOOL": (mx.bool_, np.bool_),
}
_NAMES = {mlx_dtype: name for name, (mlx_dtype, _) in _DTYPES.items()}


class SealedBlock:
    """Host arrays by name, each with its dtype's name; immutable once it is filled."""

    def __init__(self) -> None:
        self._arrays: dict[str, tuple[str, HostArray]] = {}
        self.nbytes = 0

    # -- from and to mlx_lm's caches -------------------------------------------------------------

    def fill(self, caches: Sequence[Any], start: int, num_tokens: int, *, with_state: bool) -> None:
        """Copy what ``caches`` hold of the tokens at ``[start, start + num_tokens)``, and their state if asked."""
        for i, cache in enumerate(caches):
            if type(cache) is KVCache:
                for name, array in (("keys", cache.keys), ("values", cache.values)):
                    self._put(f"layers.{i}.{name}", array[0, :, start : start + num_tokens])
            elif with_state:
                self._put_state(i, _window_only(cache))

    def restore_state(self, index: int, cache: Any) -> None:
        """Give a fresh cache the state that was kept of the ``index``-th one."""
        _, tree = self._arrays[f"layers.{index}.state"]
        cache.state = self._planted(json.loads(tree.tobytes()), index)

    def rows(self, name: str, num_tokens: int) -> mx.array:
        """The first ``num_tokens`` rows of the array of this name, ``[heads, tokens, dim]``."""
        return self._to_mlx(name, num_tokens)

    # -- from and to the store -------------------------------------------------------------------

    def tensors(self) -> list[Tensor]:
        """Views of all arrays."""
        return [
            Tensor(TensorHeader(name, dtype, array.shape), (_as_bytes(array),))
            for name, (dtype, array) in self._arrays.items()
        ]

    def place(self, expected: Sequence[TensorHeader]) -> Place:
        """Room for arrays from the store. ``expected`` of them must be there; what else is there is state."""

        def place(headers: Sequence[TensorHeader]) -> list[Tensor]:
            rows = [header for header in headers if ".state" not in header.name]
            if rows != list(expected) or any(header.dtype not in _DTYPES for header in headers):
                raise BlockDamagedError(f"the block holds {unlike(rows, expected)}")
            for header in headers:
                empty: HostArray = np.empty(header.shape, _DTYPES[header.dtype][1])
                self._add(header.name, header.dtype, empty)
            return self.tensors()

        return place

    # -- inside ----------------------------------------------------------------------------------

    def _put(self, name: str, array: mx.array) -> None:
        dtype = _NAMES[array.dtype]
        if array.dtype == mx.bfloat16:
            array = array.view(mx.uint16)
        self._add(name, dtype, np.array(array, order="C", copy=True))

    def _add(self, name: str, dtype: str, array: HostArray) -> None:
        self._arrays[name] = dtype, array
        self.nbytes += array.nbytes

    def _put_state(self, index: int, state: Any) -> None:
        leaves: list[mx.array] = []
        tree = json.dumps(_skeleton(state, leaves)).encode()
        self._add(f"layers.{index}.state", "U8", np.frombuffer(tree, np.uint8).copy())
        for j, leaf in enumerate(leaves):
            self._put(f"layers.{index}.state.{j}", leaf)

    def _planted(self, tree: Any, index: int) -> Any:
        if isinstance(tree, list):
            return [self._planted(item, index) for item in tree]
        if isinstance(tree, dict):
            return self._to_mlx(f"layers.{index}.state.{tree['array']}")
        return tree

    def _to_mlx(self, name: str, num_tokens: int | None = None) -> mx.array:
        dtype, array = self._arrays[name]
        made = mx.array(array if num_tokens is None else array[:, :num_tokens])
        return made.view(mx.bfloat16) if dtype == "BF16" else made


def unlike(found: Sequence[TensorHeader], expected: Sequence[TensorHeader]) -> str:
    """The first difference between two lists of headers, for a message."""
    for ours, theirs in zip(expected, found, strict=False):
        if ours != theirs:
            return f"{_text(theirs)}, expected {_text(ours)}"
    return f"{len(found)} arrays, expected {len(expected)}"


def _as_bytes(array: HostArray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def _text(header: TensorHeader) -> str:
    return f"{header.name} {header.dtype}{list(header.shape)}"


def dtype_name(dtype: str) -> str:
    """safetensors' name of a compute dtype such as ``"float32"``."""
    return _NAMES[getattr(mx, dtype)]


def _skeleton(state: Any, leaves: list[mx.array]) -> Any:
    """The state with ``{"array": j}`` for its ``j``-th array, which is appended to ``leaves``."""
    if isinstance(state, mx.array):
        leaves.append(state)
        return {"array": len(leaves) - 1}
    if isinstance(state, (list, tuple)):
        return [_skeleton(item, leaves) for item in state]
    return state


def _window_only(cache: Any) -> Any:
    """A cache's state; of a rotating one without the older rows that its next update drops anyway."""
    if type(cache) is not RotatingKVCache or cache.keys is None or cache.keep:
        return cache.state
    surplus = cache.keys.shape[2] - cache.max_size
    if surplus <= 0 or cache._idx != cache.keys.shape[2]:
        return cache.state
    keys, values = cache.keys[..., surplus:, :], cache.values[..., surplus:, :]
    return keys, values, cache.offset, cache.keep, cache.max_size, cache.max_size
