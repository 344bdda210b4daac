"""One forward over pages: which rows it has, where their new tokens go, and what each of them sees."""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from semantic.adapters.mlx.attention_seam import Attention, AttentionNotServedError, LayerCache
from semantic.adapters.mlx.page_arena import Array
from semantic.adapters.mlx.paged_attention import PagedAttention, Reach, reach

Span = tuple[slice, slice]
"""A range of the arena's tokens, and which of a row's new tokens go there."""


class PagedRow(Protocol):
    """A sequence's page table, as far as a forward needs it."""

    block_tokens: int
    table: list[int]
    num_tokens: int

    def next_spans(self, n: int) -> list[Span]: ...


class Forward:
    """Every row brings equally many new tokens: the model's arrays are ``[rows, heads, tokens, head_dim]``."""

    def __init__(self, rows: Sequence[PagedRow], tokens: Sequence[int], attention: PagedAttention) -> None:
        self.rows, self.tokens, self.attention = rows, tokens, attention
        self.offset: int | mx.array = self._offset()

    @cached_property
    def seen(self) -> list[Reach]:
        """What each row's one new token attends to, itself included."""
        return [reach(row.table, row.num_tokens + 1, row.block_tokens) for row in self.rows]

    @cached_property
    def targets(self) -> list[list[Span]]:
        """Where each row's new tokens go."""
        return [row.next_spans(tokens) for row, tokens in zip(self.rows, self.tokens, strict=True)]

    def write(self, arena: Array, new: Array) -> None:
        """Put the rows' new keys, or values, ``[kv_heads, n, head_dim]`` each, behind their committed tokens."""
        for spans, tokens in zip(self.targets, self._of_rows(new), strict=True):
            for there, here in spans:
                arena[:, there] = tokens[:, here]

    def attend(self, queries: Array, keys: Array, values: Array, scale: float, output: Array) -> None:
        """Attention of the rows' queries on their own pages, into an array of the same shape."""
        if self.tokens[0] == 1:
            self.attention.decode(queries[:, :, 0], keys, values, self.seen, scale, output[:, :, 0])
            return
        for row, own, result in zip(self.rows, queries, output, strict=True):
            self.attention.prefill(own, keys, values, row.table, row.block_tokens, row.num_tokens, scale, result)

    def _offset(self) -> int | mx.array:
        lengths = [row.num_tokens for row in self.rows]
        return lengths[0] if len(lengths) == 1 else mx.array(lengths)

    def _of_rows(self, new: Array) -> Sequence[Array]:
        return list(new)


class FlatForward(Forward):
    """Rows with drafts beside rows without: the tokens of all lie behind each other, ``[tokens, heads, 1, head_dim]``.

    So linear layers see one token after the other, as in any decode step; what belongs together meets at attention.
    """

    def attend(self, queries: Array, keys: Array, values: Array, scale: float, output: Array) -> None:
        """Rows of one token together, as they decode without drafts; each of the others with its draft."""
        single = [i for i, tokens in enumerate(self.tokens) if tokens == 1]
        if single:
            rows = [self._slices[i].start for i in single]
            mixed = np.empty((len(rows), *output.shape[1:2], output.shape[3]), np.float32)
            seen = [self.seen[i] for i in single]
            self.attention.decode(queries[rows, :, 0], keys, values, seen, scale, mixed)
            output[rows, :, 0] = mixed
        for i, (own, result) in enumerate(zip(self._of_rows(queries), self._of_rows(output), strict=True)):
            if self.tokens[i] > 1:
                row = self.rows[i]
                self.attention.verify(own, keys, values, row.table, row.block_tokens, row.num_tokens, scale, result)

    @cached_property
    def _slices(self) -> list[slice]:
        ends = list(accumulate(self.tokens))
        return [slice(end - tokens, end) for end, tokens in zip(ends, self.tokens, strict=True)]

    def _offset(self) -> mx.array:
        return mx.array([row.num_tokens + i for row, n in zip(self.rows, self.tokens, strict=True) for i in range(n)])

    def _of_rows(self, new: Array) -> Sequence[Array]:
        return [new[own, :, 0].transpose(1, 0, 2) for own in self._slices]


class PagedLayer(LayerCache):
    """One layer of one forward: a row for each sequence, each attending to its own pages."""

    def __init__(self, forward: Forward, keys: Array, values: Array) -> None:
        self._forward, self._keys, self._values = forward, keys, values
        self.offset = forward.offset
        self._new: tuple[mx.array, mx.array] | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Keep the new tokens until :meth:`attend`, which evaluates them together with the queries."""
        self._new = keys, values
        return keys, values

    def make_mask(self, n: int, return_array: bool = False, window_size: int | None = None) -> str | None:
        """Causal order is all that pages know; it follows from the positions."""
        if return_array or window_size is not None:
            raise AttentionNotServedError("paged caches compute plain causal attention")
        return "causal" if n > 1 else None

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, original: Attention, **how: Any) -> mx.array:
        """Write the new tokens into the pages and attend to all of them, row by row."""
        if self._new is None or keys is not self._new[0] or values is not self._new[1]:
            raise AttentionNotServedError("the model changes keys or values between cache and attention")
        mask, n = how.get("mask"), queries.shape[2]
        if how.get("sinks") is not None or not (mask == "causal" if n > 1 else mask is None):
            raise AttentionNotServedError("paged caches compute plain causal attention, without sinks")
        self._new = None
        mx.eval(queries, keys, values)
        self._forward.write(self._keys, np.array(keys, copy=False))
        self._forward.write(self._values, np.array(values, copy=False))
        new = np.array(queries, copy=False)
        output = np.empty((*new.shape[:3], self._values.shape[-1]), np.float32)
        self._forward.attend(new, self._keys, self._values, how["scale"], output)
        return mx.array(output)
