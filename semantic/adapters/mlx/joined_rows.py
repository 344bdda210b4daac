"""Several sequences' caches as a model sees them in a decode step: joined layer by layer, then taken apart again."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, CacheList

from semantic.adapters.mlx.attention_seam import AttentionNotServedError


class JoinedLayer(Protocol):
    """One layer of several sequences in one forward."""

    def part(self) -> None:
        """End the forward: each sequence's own cache has what is its own. Raises ``AttentionNotServedError``."""

    def drop(self) -> None:
        """Forget a forward that failed."""


JoinAttention = Callable[[Sequence[Any]], Any]
"""Joins one layer's attention caches, one of each sequence."""


class JoinedRows:
    """The caches of one decode step. ``layers`` is what the model gets."""

    def __init__(self, rows: Sequence[Sequence[Any]], join_attention: JoinAttention) -> None:
        self._join_attention = join_attention
        self._joined: list[JoinedLayer] = []
        self.layers = [self._join(caches) for caches in zip(*rows, strict=True)]

    def part(self) -> None:
        """Give every sequence its own."""
        for layer in self._joined:
            layer.part()

    def drop(self) -> None:
        """Forget a forward that failed."""
        for layer in self._joined:
            layer.drop()

    def _join(self, caches: Sequence[Any]) -> Any:
        if isinstance(caches[0], CacheList):
            return CacheList(*(self._join(inner) for inner in zip(*(cache.caches for cache in caches), strict=True)))
        if caches[0] is None:
            return None
        if len(caches) == 1 and isinstance(caches[0], ArraysCache):
            return caches[0]
        joined = JoinedState(caches) if isinstance(caches[0], ArraysCache) else self._join_attention(caches)
        self._joined.append(joined)
        return joined


class JoinedState(ArraysCache):  # type: ignore[misc]
    """The states of several sequences, row upon row. They are of one shape (:func:`state_shapes`)."""

    def __init__(self, caches: Sequence[ArraysCache]) -> None:
        super().__init__(len(caches[0].cache))
        self._rows = caches
        for i in range(len(self.cache)):
            self.cache[i] = _upon_each_other([row.cache[i] for row in caches])

    def part(self) -> None:
        """Give each sequence its row of the new state."""
        for i, state in enumerate(self.cache):
            if state is None:
                continue
            for number, row in enumerate(self._rows):
                row.cache[i] = state[number : number + 1]

    def drop(self) -> None:
        """The sequences' own states were not touched."""


def state_shapes(leaves: Iterable[Any]) -> Hashable:
    """The shapes of what a sequence's caches keep as state. Only rows that are equal here can be joined.

    A state that is not there yet is no state of zeros: some models begin in another way than they go on.
    """
    states = [state for cache in leaves if isinstance(cache, ArraysCache) for state in cache.cache]
    return tuple(None if state is None else state.shape for state in states)


def _upon_each_other(states: Sequence[mx.array | None]) -> mx.array | None:
    if all(state is None for state in states):
        return None
    if len({None if state is None else state.shape for state in states}) > 1:
        raise AttentionNotServedError("the rows' states differ in shape")
    return mx.concatenate([state for state in states if state is not None])
