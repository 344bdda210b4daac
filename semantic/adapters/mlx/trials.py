"""Trials of a lane: a few rows of different lengths, decoded together and held against the model's own caches.

Windows are made small for a trial, on both sides alike, so that a handful of tokens goes beyond them. Where rows are
put side by side, a context of thousands of tokens is tried too: its keys and values are invented, not computed, since
both sides only have to agree on them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import CacheList, KVCache, RotatingKVCache, make_prompt_cache

from semantic.adapters.mlx.attention_seam import AttentionSeam
from semantic.adapters.mlx.cache_probe import flatten_caches
from semantic.adapters.mlx.mixed_cache import QUANTISED_KINDS
from semantic.adapters.mlx.quantised_layers import lengthen, make_layers
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import ModelCacheSpec

Logits = np.ndarray[Any, Any]

_PLAIN = ((1, 2, 3), (4, 5, 6, 7, 8, 9))
_MIXED = ((1,), (2, 3, 4), (5, 6, 7, 8, 9, 10, 11, 12, 13))
"""Prompts; each one's last token is the first decode row. One of them has nothing computed before it."""

_CUT = 5
"""Where the last prompt is cut to see whether its beginning can be taken up alone."""

_STEPS = ((0, 1, 2), (0, 1, 2), (2, 0))
"""Which rows each decode step takes: all of them, and then some in another order."""

_WINDOW = 4
_LONG = 2304
"""Tokens of an invented context: more than what models with sparse attention read in full (2,048)."""

_UNKNOWN = 512
"""Taken as the context of a model that tells none: it may have a table of positions, which must not be left."""

_TOLERANCE = {"float32": 1e-3}
_HALF_TOLERANCE = 5e-2
_ROUNDED = 5e-2  # a last bit that differs can round a key or value to the next code
"""Largest allowed difference of logits, as a share of their spread. A wrong lane is off by about the whole spread."""


class Trials:
    """Trials of one model. What its own caches say is computed once."""

    ROWS = 3

    def __init__(
        self, model: nn.Module, spec: ModelCacheSpec, *, plain: bool, context_length: int | None = None
    ) -> None:
        self._model, self._spec, self._plain = model, spec, plain
        self._long = min(_LONG, (context_length or _UNKNOWN) // 2)
        self._own: dict[Any, Logits] = {}

    def try_batch(self, memory: Any, *, padded: bool) -> str | None:
        """Why rows of this memory can't share a forward, or None. Leaves the memory empty."""
        prompts, steps = (_PLAIN, ((0, 1),)) if self._plain else (_MIXED, _STEPS)
        expected = self._own_logits(prompts, steps)
        seam = AttentionSeam(self._model)
        try:
            refusal = self._difference(expected, self._lane_logits(memory, prompts, steps))
            if refusal is None and padded:
                refusal = self._try_side_by_side(memory)
            return refusal
        except Exception as error:  # noqa: BLE001 - whatever the model does with a cache it can't use, the lane is out
            return f"{type(error).__name__}: {error}"
        finally:
            memory.clear()
            seam.release()

    def try_resumed(self, memory: Any) -> str | None:
        """Why a context can't be taken up from a sealed block, or None: in the middle, or at its end with its state."""
        prompt, block = _MIXED[-1], BlockId(0)
        taken = _CUT if self._plain else len(prompt) - 1
        expected = self._own_logits((prompt,), ((0,),))
        try:
            first, second = self._open(memory), self._open(memory)
            self._feed(memory, first, prompt[:-1])
            memory.seal(first, block, 0, len(prompt) - 1)
            memory.resume(second, [block], taken)
            if self._plain:
                self._feed(memory, second, prompt[taken:-1])
            actual = self._step(memory, [second], [prompt[-1]])
        except Exception as error:  # noqa: BLE001 - whatever the model does, it can't be taken up
            return f"its contexts can't be taken up again: {type(error).__name__}: {error}"
        finally:
            memory.clear()
        refusal = self._difference(expected, actual)
        return refusal and f"its contexts can't be taken up again: {refusal}"

    def try_chunks(self) -> str | None:
        """Why far into a context it matters how many tokens are fed at once, or None."""
        tokens, start = _MIXED[2][:3], _MIXED[2]
        at_once, apart = (self._lengthened(self._own_row(start)) for _ in range(2))
        whole = _as_float32(self._model(mx.array([tokens]), cache=at_once))
        steps = [self._own_step(apart, token) for token in tokens]
        refusal = self._difference(whole, steps[-1])
        return refusal and f"what it says depends on how a prompt is cut into chunks: {refusal}"

    # -- the two sides ---------------------------------------------------------------------------

    def _own_logits(self, prompts: Sequence[Sequence[int]], steps: Sequence[Sequence[int]]) -> Logits:
        if (prompts, steps) not in self._own:
            rows = [self._own_row(prompt) for prompt in prompts]
            self._own[prompts, steps] = np.concatenate(
                [self._own_step(rows[i], _token(prompts[i], n)) for n, step in enumerate(steps) for i in step]
            )
        return self._own[prompts, steps]

    def _own_row(self, prompt: Sequence[int]) -> list[Any]:
        caches = _shrunk(make_layers(self._model, self._spec.precision))
        if len(prompt) > 1:
            mx.eval(self._model(mx.array([prompt[:-1]]), cache=caches))
        return caches

    def _own_step(self, caches: list[Any], token: int) -> Logits:
        return _as_float32(self._model(mx.array([[token]]), cache=caches))

    def _lane_logits(self, memory: Any, prompts: Sequence[Sequence[int]], steps: Sequence[Sequence[int]]) -> Logits:
        rows = [self._open(memory) for _ in prompts]
        for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
            memory.attach(row, [BlockId(i)])
            if len(prompt) > 1:
                self._feed(memory, row, prompt[:-1])
        return np.concatenate([self._lane_step(memory, rows, prompts, step, n) for n, step in enumerate(steps)])

    def _lane_step(self, memory: Any, rows: Any, prompts: Any, step: Sequence[int], number: int) -> Logits:
        """The logits of one decode step, in the order of ``step``, whatever groups the memory makes of its rows."""
        together = getattr(memory, "together", lambda some: [list(range(len(some)))])
        made: dict[int, Logits] = {}
        for group in together([rows[i] for i in step]):
            tokens = [_token(prompts[step[i]], number) for i in group]
            logits = self._step(memory, [rows[step[i]] for i in group], tokens)
            made.update(zip(group, logits, strict=True))
        return np.stack([made[i] for i in range(len(step))])

    def _open(self, memory: Any) -> Any:
        row = memory.open()
        _shrunk(getattr(row, "layers", []))
        return row

    def _feed(self, memory: Any, row: Any, token_ids: Sequence[int]) -> None:
        mx.eval(self._model(mx.array([token_ids]), cache=memory.layer_caches([row], len(token_ids))))
        memory.commit([row], len(token_ids))

    def _step(self, memory: Any, rows: Sequence[Any], tokens: Sequence[int]) -> Logits:
        logits = self._model(mx.array([[token] for token in tokens]), cache=memory.layer_caches(rows, 1))
        memory.commit(rows, 1)
        return _as_float32(logits)

    def _difference(self, expected: Logits, actual: Logits) -> str | None:
        spread = float(expected.max() - expected.min())
        off = float(np.abs(actual - expected).max())
        precision = self._spec.precision
        bound = (_ROUNDED if precision.is_quantised else _TOLERANCE.get(precision.dtype, _HALF_TOLERANCE)) * spread
        return None if off <= bound else f"logits differ by {off:.3g}, allowed are {bound:.3g}"

    # -- contexts that are invented --------------------------------------------------------------

    def _try_side_by_side(self, memory: Any) -> str | None:
        """A row far longer than the other: what a model does only in long contexts shows in the short one too."""
        if any(map(_keeps_several_keys, make_prompt_cache(self._model))):
            return "a layer keeps keys of its own to choose what it attends to"
        prompts = (_MIXED[1], _MIXED[2])
        own = [self._own_row(prompt) for prompt in prompts]
        rows = [self._open(memory) for _ in prompts]
        for row, prompt in zip(rows, prompts, strict=True):
            self._feed(memory, row, prompt[:-1])
        for caches in (own[1], rows[1].layers):
            self._lengthened(caches)
        expected = np.concatenate([self._own_step(caches, 7) for caches in own])
        return self._difference(expected, self._step(memory, rows, [7, 7]))

    def _lengthened(self, caches: list[Any]) -> list[Any]:
        """Put an invented past before what full-attention caches hold."""
        for cache in flatten_caches(caches):
            if type(cache) is KVCache:
                held = cache.keys_and_values()
                cache.keys, cache.values = (mx.concatenate([_invented(of, self._long), of], axis=2) for of in held)
                cache.offset += self._long
            elif type(cache) in QUANTISED_KINDS:
                lengthen(cache, partial(_invented, tokens=self._long))
        return caches


def _keeps_several_keys(cache: Any) -> bool:
    kinds = (KVCache, RotatingKVCache)
    return isinstance(cache, CacheList) and sum(isinstance(inner, kinds) for inner in cache.caches) > 1


def _token(prompt: Sequence[int], step: int) -> int:
    return prompt[-1] + step


def _shrunk(caches: list[Any]) -> list[Any]:
    """Windows become small: what holds beyond a small one holds beyond a large one."""
    for cache in flatten_caches(caches):
        if type(cache) is RotatingKVCache and cache.max_size > _WINDOW:
            cache.make_mask = partial(_narrower_mask, cache, cache.max_size - _WINDOW)
            cache.max_size = _WINDOW
    return caches


def _narrower_mask(cache: Any, by: int, n: int, window_size: int | None = None, return_array: bool = False) -> Any:
    """The mask for a window that was made smaller by so many tokens, as the cache was."""
    narrower = None if window_size is None else max(1, window_size - by)
    return type(cache).make_mask(cache, n, window_size=narrower, return_array=return_array)


def _invented(like: mx.array, tokens: int) -> mx.array:
    """Random keys or values of a past that never was, the same at every call."""
    shape = (*like.shape[:2], tokens, like.shape[3])
    return mx.random.normal(shape, dtype=like.dtype, key=mx.random.key(0)) * mx.std(like).astype(like.dtype)


def _as_float32(logits: mx.array) -> Logits:
    return np.array(logits[:, -1].astype(mx.float32))
