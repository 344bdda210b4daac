"""Whether a model's rotary positions depend on how a prompt is cut into chunks (dynamic NTK scaling past its limit)."""

import inspect
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

_FAR = 1 << 16
_TOLERANCE = 1e-3


def depends_on_chunks(model: nn.Module, context_length: int | None) -> bool:
    """Turn two tokens at once and one after the other, near and far beyond the context: are they the same?"""
    far = max(_FAR, 2 * (context_length or 0))
    return any(not _turns_each_by_its_place(part, at) for part in model.modules() for at in (0, far) if _is_rope(part))


def _is_rope(part: Any) -> bool:
    if _width(part) is None:
        return False
    try:
        parameters = inspect.signature(type(part).__call__).parameters
    except (TypeError, ValueError):
        return False
    return "offset" in parameters


def _width(part: Any) -> int | None:
    width = getattr(part, "dims", None) or getattr(part, "dim", None)
    return width if isinstance(width, int) else None


def _turns_each_by_its_place(rope: Any, at: int) -> bool:
    pair = mx.ones((1, 1, 2, _width(rope) or 0))
    try:
        at_once = rope(pair, offset=at)
        apart = mx.concatenate([rope(pair[:, :, i : i + 1], offset=at + i) for i in range(2)], axis=2)
    except Exception:  # noqa: BLE001 - not the rotation that it looked like; the lanes' own trials decide
        return True
    return bool(np.allclose(np.array(at_once.astype(mx.float32)), np.array(apart.astype(mx.float32)), atol=_TOLERANCE))
