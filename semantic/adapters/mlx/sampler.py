"""Chooses next tokens from logits, as ``mlx_lm.generate_step`` with ``make_sampler`` would."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import mlx.core as mx
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

from semantic.application.ports.model import DecodeRow, SequenceCache
from semantic.domain.value_objects import SamplingParams


class Sampler:
    """Draws depend on (seed, index) of a row and on nothing else in the batch.

    The randomness is the sequence of keys that ``mx.random.seed(seed)`` would start, so that a sampled request
    equals ``mlx_lm.generate(..., sampler=make_sampler(...))`` after that call.
    """

    def __init__(self) -> None:
        self._chains: WeakKeyDictionary[SequenceCache, tuple[int, mx.array]] = WeakKeyDictionary()

    def choose(self, logits: mx.array, rows: Sequence[DecodeRow]) -> list[int]:
        """The next token of each row of ``logits`` ``[batch, vocabulary]``."""
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        if all(row.sampling.is_greedy for row in rows):
            return mx.argmax(logprobs, axis=-1).tolist()  # type: ignore[no-any-return]
        tokens = [
            mx.argmax(logprobs[i : i + 1], axis=-1) if row.sampling.is_greedy else self._draw(logprobs[i : i + 1], row)
            for i, row in enumerate(rows)
        ]
        return mx.concatenate(tokens).tolist()  # type: ignore[no-any-return]

    def _draw(self, logprobs: mx.array, row: DecodeRow) -> mx.array:
        kept = _filter(logprobs, row.sampling)
        return mx.random.categorical(kept * (1.0 / row.sampling.temp), key=self._key(row))

    def _key(self, row: DecodeRow) -> mx.array:
        """The ``index``-th key that the seed's chain splits off."""
        drawn, state = self._chains.get(row.cache, (0, None))
        if state is None or drawn > row.index:
            drawn, state = 0, mx.random.key(row.seed)
        while True:
            state, key = mx.random.split(state)
            drawn += 1
            if drawn > row.index:
                mx.eval(state, key)
                self._chains[row.cache] = drawn, state
                return key


def _filter(logprobs: mx.array, sampling: SamplingParams) -> mx.array:
    """mlx_lm's filters in mlx_lm's order."""
    if 0.0 < sampling.top_p < 1.0:
        logprobs = apply_top_p(logprobs, sampling.top_p)
    if sampling.min_p > 0.0:
        logprobs = apply_min_p(logprobs, sampling.min_p, 1)
    if sampling.top_k > 0:
        logprobs = apply_top_k(logprobs, sampling.top_k)
    return logprobs
