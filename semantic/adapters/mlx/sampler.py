"""Chooses next tokens from logits, as ``mlx_lm.generate_step`` with ``make_sampler`` would."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

from semantic.adapters.mlx.logits_processing import process
from semantic.application.ports.model import DecodeRow, Drawn, SequenceCache
from semantic.domain.value_objects import SamplingParams, TokenLogprobs


class Sampler:
    """Draws depend on (seed, index) of a row and on nothing else in the batch.

    The randomness is the sequence of keys that ``mx.random.seed(seed)`` would start, so that a sampled request
    equals ``mlx_lm.generate(..., sampler=make_sampler(...))`` after that call. ``on_host``: choose greedy tokens in
    numpy, where MLX runs on the CPU and its bits are not asked for.
    """

    def __init__(self, *, on_host: bool) -> None:
        self._on_host = on_host
        self._chains: WeakKeyDictionary[SequenceCache, tuple[int, mx.array]] = WeakKeyDictionary()

    def choose(self, logits: mx.array, rows: Sequence[DecodeRow]) -> list[Drawn]:
        """What each row draws from its logits; ``logits`` is ``[rows, vocabulary]``.

        Several rows may be one sequence's at consecutive positions, each with its own ``index`` and ``history``.
        """
        mx.eval(logits)
        is_plain = [_is_plain(row.sampling) for row in rows]
        best = self._greedy(logits) if any(is_plain) else []
        return [Drawn(best[i]) if is_plain[i] else self._draw(logits[i : i + 1], row) for i, row in enumerate(rows)]

    def _greedy(self, logits: mx.array) -> list[int]:
        if self._is_for_host(logits):
            return [int(token) for token in _logprobs_on_host(logits).argmax(axis=-1)]
        return [int(token) for token in mx.argmax(_logprobs(logits), axis=-1)]

    def _is_for_host(self, logits: mx.array) -> bool:
        return self._on_host and logits.dtype == mx.float32  # in half precision, ties are MLX's rounding

    def _draw(self, logits: mx.array, row: DecodeRow) -> Drawn:
        """One row's token, from logits ``[1, vocabulary]``, with all that its sampling asks for."""
        sampling = row.sampling
        if sampling.changes_logits:
            logits = process(logits, row)
        if sampling.is_greedy:
            [token] = self._greedy(logits)
        else:
            kept = self._filter(_logprobs(logits), row)
            [drawn] = mx.random.categorical(kept * (1.0 / sampling.temp), key=self._key(row))
            token = int(drawn)
        if sampling.logprobs is None:
            return Drawn(token)
        [logprobs] = _logprobs_on_host(logits) if self._is_for_host(logits) else _as_numpy(_logprobs(logits))
        return Drawn(token, _ranked(logprobs, token, sampling.logprobs))

    def _filter(self, logprobs: mx.array, row: DecodeRow) -> mx.array:
        """mlx_lm's filters in mlx_lm's order."""
        sampling = row.sampling
        if 0.0 < sampling.top_p < 1.0:
            logprobs = apply_top_p(logprobs, sampling.top_p)
        if sampling.min_p > 0.0:
            logprobs = apply_min_p(logprobs, sampling.min_p, 1)
        if sampling.xtc_probability > 0.0:
            logprobs = _apply_xtc(logprobs, sampling, self._key(row, of_xtc=True))
        if sampling.top_k > 0:
            logprobs = apply_top_k(logprobs, sampling.top_k)
        return logprobs

    def _key(self, row: DecodeRow, *, of_xtc: bool = False) -> mx.array:
        """The key that the seed's chain splits off for this draw; with XTC each draw takes two, XTC's first."""
        if row.sampling.xtc_probability == 0.0:
            return self._split_off(row, row.index)
        return self._split_off(row, 2 * row.index + (0 if of_xtc else 1))

    def _split_off(self, row: DecodeRow, number: int) -> mx.array:
        taken, state = self._chains.get(row.cache, (0, None))
        if state is None or taken > number:
            taken, state = 0, mx.random.key(row.seed)
        while True:
            state, key = mx.random.split(state)
            taken += 1
            if taken > number:
                mx.eval(state, key)
                self._chains[row.cache] = taken, state
                return key


def _is_plain(sampling: SamplingParams) -> bool:
    """Whether the best token is all that is asked for, which costs one pass over all rows together."""
    return sampling.is_greedy and not sampling.changes_logits and sampling.logprobs is None


def _logprobs(logits: mx.array) -> mx.array:
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def _logprobs_on_host(logits: mx.array) -> Any:
    """As :func:`_logprobs`, in numpy: 0.3 ms for eight rows of 49,152, not 4.2: on CPU MLX's ``exp`` is scalar."""
    rows = _as_numpy(logits)
    peak = rows.max(axis=-1, keepdims=True)
    return rows - (peak + np.log(np.exp(rows - peak).sum(axis=-1, keepdims=True)))


def _as_numpy(rows: mx.array) -> Any:
    return np.array(rows.astype(mx.float32), copy=False)


def _apply_xtc(logprobs: mx.array, sampling: SamplingParams, key: mx.array) -> mx.array:
    """``mlx_lm.sample_utils.apply_xtc``, which draws from MLX's global randomness, with a key of our own."""
    probs = mx.softmax(logprobs, axis=-1)
    likely = mx.where(probs > sampling.xtc_threshold, probs, mx.inf)
    left_out = probs > likely.min(axis=-1, keepdims=True)
    if sampling.xtc_special_tokens:
        left_out[..., mx.array(sorted(sampling.xtc_special_tokens))] = False
    is_off = mx.random.uniform(0, 1, key=key) > sampling.xtc_probability
    return mx.where(is_off, logprobs, mx.where(left_out, -mx.inf, logprobs))


def _ranked(logprobs: Any, token_id: int, count: int) -> TokenLogprobs:
    """The drawn token's log-probability and the ``count`` best at its place; of equal ones the lower id comes first."""
    size = logprobs.size
    best = np.argpartition(logprobs, size - count)[size - count :] if 0 < count < size else np.arange(size)[:count]
    order = best[np.lexsort((best, -logprobs[best]))]
    return TokenLogprobs(token_id, float(logprobs[token_id]), tuple((int(one), float(logprobs[one])) for one in order))
