"""Which way a model runs: paged or contiguous caches, rows together or one by one. Decided by trying.

A lane serves a model only if a short batch of two lengths gives the logits that the model's own caches give.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from attrs import frozen
from mlx_lm.models.cache import make_prompt_cache

from semantic.adapters.mlx.attention_seam import AttentionSeam
from semantic.adapters.mlx.cache_probe import holds_plain_attention
from semantic.adapters.mlx.contiguous_cache import ContiguousMemory
from semantic.adapters.mlx.paged_attention import PagedAttention
from semantic.adapters.mlx.paged_cache import PagedMemory
from semantic.adapters.mlx.team import Team
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import ModelCacheSpec, Reuse

Memory = PagedMemory | ContiguousMemory
Logits = np.ndarray[Any, Any]

RAGGED, ONE_BY_ONE = "ragged", "one by one"

_PROBES = ((1, 2, 3), (4, 5, 6, 7, 8, 9))
"""Two prompts of different lengths; each one's last token is the decode row."""

_TOLERANCE = {"float32": 1e-3}
_HALF_TOLERANCE = 5e-2
"""Largest allowed difference of logits, as a share of their spread. A wrong lane is off by about the whole spread."""


@frozen
class Lane:
    """A way to run a model, and where its cached contexts may be taken up. ``reason`` says why, for people."""

    layout: str
    batching: str
    reason: str
    reuse: Reuse = Reuse.ANYWHERE


def choose_lane(model: nn.Module, spec: ModelCacheSpec, *, layout: str, exactness: str, device: str) -> Lane:
    """The fastest lane that was seen to agree with the model's own caches.

    ``layout``: ``"auto"``, ``"paged"`` or ``"contiguous"``. ``exactness="bit"`` keeps mlx_lm's operations and shapes.
    """
    if exactness == "bit":
        reason = "bit exactness keeps mlx_lm's own operations and shapes"
        return Lane("contiguous", ONE_BY_ONE, reason, Reuse.AT_CHUNKS if holds_plain_attention(model) else Reuse.NEVER)
    if not holds_plain_attention(model):
        refusal = _try_state(model, spec)
        reuse = Reuse.AT_STATES if refusal is None else Reuse.NEVER
        return Lane("contiguous", ONE_BY_ONE, refusal or "some layers keep more than plain keys and values", reuse)
    layouts = ("paged", "contiguous") if layout == "paged" or (layout, device) == ("auto", "cpu") else ("contiguous",)
    refusals: list[str] = []
    for candidate in layouts:
        refusal = _try_lane(model, spec, candidate)
        if refusal is None:
            return Lane(candidate, RAGGED, "; ".join([*refusals, f"{candidate} rows agree with the model's own"]))
        refusals.append(f"{candidate} rows don't: {refusal}")
    return Lane("contiguous", ONE_BY_ONE, "; ".join(refusals), Reuse.AT_CHUNKS)


def make_memory(model: nn.Module, spec: ModelCacheSpec, layout: str, num_blocks: int, team: Team) -> Memory:
    """The physical memory of a pool of ``num_blocks``."""
    if layout == "paged":
        return PagedMemory(spec, num_blocks, PagedAttention(team))
    return ContiguousMemory(lambda: make_prompt_cache(model), spec)


def _try_lane(model: nn.Module, spec: ModelCacheSpec, layout: str) -> str | None:
    """Why the lane can't serve the model, or None."""
    if layout == "paged" and spec.precision.dtype != "float32":
        return f"pages hold float32 and the model computes {spec.precision.dtype}"
    expected = np.concatenate([_own_logits(model, probe) for probe in _PROBES])
    seam, memory = AttentionSeam(model), make_memory(model, spec, layout, len(_PROBES), Team(1))
    try:
        actual = _lane_logits(model, memory)
    except Exception as error:  # noqa: BLE001 - whatever the model does with a cache it can't use, the lane is out
        return f"{type(error).__name__}: {error}"
    finally:
        memory.clear()
        seam.release()
    return _difference(expected, actual, spec)


def _difference(expected: Logits, actual: Logits, spec: ModelCacheSpec) -> str | None:
    spread = float(expected.max() - expected.min())
    off = float(np.abs(actual - expected).max())
    bound = _TOLERANCE.get(spec.precision.dtype, _HALF_TOLERANCE) * spread
    return None if off <= bound else f"logits differ by {off:.3g}, allowed are {bound:.3g}"


def _feed(model: nn.Module, memory: Any, row: Any, token_ids: Sequence[int]) -> None:
    mx.eval(model(mx.array([token_ids]), cache=memory.layer_caches([row], len(token_ids))))
    memory.commit([row], len(token_ids))


def _try_state(model: nn.Module, spec: ModelCacheSpec) -> str | None:
    """Why the model can't be taken up where the state of its caches was kept, or None."""
    probe, block = _PROBES[1], BlockId(0)
    expected = _own_logits(model, probe)
    memory = ContiguousMemory(lambda: make_prompt_cache(model), spec)
    try:
        first, second = memory.open(), memory.open()
        _feed(model, memory, first, probe[:-1])
        memory.seal(first, block, 0, len(probe) - 1)
        memory.resume(second, [block], len(probe) - 1)
        actual = _as_float32(model(mx.array([probe[-1:]]), cache=memory.layer_caches([second], 1)))
    except Exception as error:  # noqa: BLE001 - whatever the model does, it can't be taken up
        return f"its caches' state can't be kept: {type(error).__name__}: {error}"
    finally:
        memory.clear()
    return _difference(expected, actual, spec)


def _own_logits(model: nn.Module, probe: Sequence[int]) -> Logits:
    caches = make_prompt_cache(model)
    mx.eval(model(mx.array([probe[:-1]]), cache=caches))
    return _as_float32(model(mx.array([probe[-1:]]), cache=caches))


def _lane_logits(model: nn.Module, memory: Memory) -> Logits:
    rows = [memory.open() for _ in _PROBES]
    for i, (row, probe) in enumerate(zip(rows, _PROBES, strict=True)):
        memory.attach(row, [BlockId(i)])  # type: ignore[arg-type]
        _feed(model, memory, row, probe[:-1])
    caches = memory.layer_caches(rows, 1)  # type: ignore[arg-type]
    return _as_float32(model(mx.array([probe[-1:] for probe in _PROBES]), cache=caches))


def _as_float32(logits: mx.array) -> Logits:
    return np.array(logits[:, -1].astype(mx.float32))
