"""What mlx_lm's own caches hold of some tokens, copied into host memory: a block that was sealed.

A plain key/value cache gives the rows of the block's tokens. Any other cache gives its whole state as it is at the
block's end; it can be taken up there and nowhere else.
"""

import json
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import RotatingKVCache

from semantic.adapters.mlx.host_block import HostArray, HostBlock
from semantic.adapters.mlx.token_rows import keeps_rows, rows_of

_NAMES = {
    mx.float32: "F32",
    mx.float16: "F16",
    mx.bfloat16: "BF16",
    mx.uint8: "U8",
    mx.uint16: "U16",
    mx.uint32: "U32",
    mx.int32: "I32",
    mx.int64: "I64",
    mx.bool_: "BOOL",
}


class SealedBlock(HostBlock):
    """What caches of mlx_lm's leave behind."""

    def fill(self, caches: Sequence[Any], start: int, num_tokens: int, *, with_state: bool) -> None:
        """Copy what ``caches`` hold of the tokens at ``[start, start + num_tokens)``, and their state if asked."""
        for i, cache in enumerate(caches):
            self.fill_layer(i, cache, start, num_tokens, with_state=with_state)

    def fill_layer(self, index: int, cache: Any, start: int, num_tokens: int, *, with_state: bool) -> None:
        """The same of one layer's cache, the ``index``-th."""
        if keeps_rows(cache):
            for name, array in rows_of(cache):
                self._put(f"layers.{index}.{name}", array[0, :, start : start + num_tokens])
        elif with_state:
            self._put_state(index, _window_only(cache))

    def restore_state(self, index: int, cache: Any) -> None:
        """Give a fresh cache the state that was kept of the ``index``-th one."""
        tree = self.array(f"layers.{index}.state")
        cache.state = self._planted(json.loads(tree.tobytes()), index)

    # -- inside ----------------------------------------------------------------------------------

    def _put(self, name: str, array: mx.array) -> None:
        dtype = _NAMES[array.dtype]
        if array.dtype == mx.bfloat16:
            array = array.view(mx.uint16)
        self.put(name, dtype, np.array(array, order="C", copy=True))

    def _put_state(self, index: int, state: Any) -> None:
        leaves: list[mx.array] = []
        tree = json.dumps(_skeleton(state, leaves)).encode()
        self.put(f"layers.{index}.state", "U8", np.frombuffer(tree, np.uint8).copy())
        for j, leaf in enumerate(leaves):
            self._put(f"layers.{index}.state.{j}", leaf)

    def _planted(self, tree: Any, index: int) -> Any:
        if isinstance(tree, list):
            return [self._planted(item, index) for item in tree]
        if isinstance(tree, dict):
            name = f"layers.{index}.state.{tree['array']}"
            return _to_mlx(self.array(name), self.dtype(name))
        return tree


def joined(blocks: Sequence[SealedBlock], name: str, num_tokens: int, room: int) -> mx.array:
    """The first ``num_tokens`` rows of the blocks' arrays of this name, ``[1, heads, room, dim]``; zeros behind them.

    Put together before MLX sees them, which takes longer over many small arrays than to copy one. With ``room`` for
    more, the next step need not copy all to make some.
    """
    arrays = [block.array(name) for block in blocks]
    heads, _, dim = arrays[0].shape
    rows = np.zeros((1, heads, room, dim), arrays[0].dtype)
    start = 0
    for array in arrays:
        part = array[:, : num_tokens - start]
        rows[0, :, start : start + part.shape[1]] = part
        start += part.shape[1]
    assert start == num_tokens, (start, num_tokens)
    return _to_mlx(rows, blocks[0].dtype(name))


def _to_mlx(array: HostArray, dtype: str) -> mx.array:
    made = mx.array(array)
    return made.view(mx.bfloat16) if dtype == "BF16" else made


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
