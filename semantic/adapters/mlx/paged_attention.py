"""Attention over pages: scaled dot-product attention of new queries on a table of key/value blocks, in numpy.

On x86 MLX's softmax spends its time in a scalar ``exp``; numpy's is vectorised. The online softmax (Milakov and
Gimelshein 2018, arXiv 1805.02867) joins attention on disjoint positions, so the blocks need not be contiguous, and a
score tile stays in the L2 cache. ADR 0003 has the measurements.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from semantic.adapters.mlx.page_arena import Array
from semantic.adapters.mlx.team import Team

_ROWS_PER_TILE = 128
"""Query rows per score tile: 128 x 256 float32 is 128 KiB, and the tiles divide evenly among threads."""

_FEW_TOKENS = 128
"""Chunks of up to so many tokens are computed for all heads of a group at once."""

_SPAN_TOKENS, _SPAN_SCORES = 256, 64 * 1024
"""Of the past, a piece is at least 256 tokens, and so many that its scores of one KV head take 256 KiB."""

_TOKENS_PER_THREAD = 512
"""One row's attention is handed to a second thread from twice this many tokens on."""

_SHORT = 1024
"""Rows that see no more than this share one softmax, which saves calls and costs a little padding."""

Reach = tuple[slice, ...]
"""The positions that a decode row sees, as ranges of an arena's tokens; one range where its blocks are neighbours."""


def reach(table: Sequence[int], tokens: int, block_tokens: int, first: int = 0) -> Reach:
    """The positions ``[first, tokens)`` of a table of slots."""
    ranges: list[slice] = []
    for page in range(first // block_tokens, -(-tokens // block_tokens)):
        start = table[page] * block_tokens + max(0, first - page * block_tokens)
        stop = table[page] * block_tokens + min(block_tokens, tokens - page * block_tokens)
        if ranges and ranges[-1].stop == start:
            start = ranges.pop().start
        ranges.append(slice(start, stop))
    return tuple(ranges)


class PagedAttention:
    """Computes attention on a team of threads.

    ``keys`` and ``values`` are one layer's arena, ``[kv_heads, tokens, head_dim]``. numpy's BLAS should run on one
    thread meanwhile (:mod:`semantic.adapters.mlx.numpy_blas`), or it fights with MLX's for the cores.
    """

    def __init__(self, team: Team) -> None:
        self._team = team

    def prefill(
        self,
        queries: Array,
        keys: Array,
        values: Array,
        table: Sequence[int],
        block_tokens: int,
        offset: int,
        scale: float,
        output: Array,
    ) -> None:
        """Causal attention of ``queries`` ``[heads, n, head_dim]`` at positions ``offset`` to ``offset + n``.

        The table's slots already hold the keys and values of these positions. Writes ``[heads, n, value_dim]``.
        """
        heads, n, _ = queries.shape
        kv_heads = keys.shape[0]
        scaled = np.multiply(queries, np.float32(scale))
        if n <= _FEW_TOKENS:
            past, present = reach(table, offset, block_tokens), reach(table, offset + n, block_tokens, offset)
            self._prefill_few(scaled, keys, values, past, present, output)
            return
        starts = _tile_starts(offset, n, block_tokens)
        longest_first = iter([*itertools.product(range(heads), itertools.pairwise(starts))][::-1])

        def work() -> None:
            scores = np.empty((_ROWS_PER_TILE, block_tokens), np.float32)
            for head, (start, stop) in longest_first:
                kv_head = head * kv_heads // heads
                seen = [
                    slice(slot * block_tokens, slot * block_tokens + min(block_tokens, offset + stop - position))
                    for slot, position in zip(table, range(0, offset + stop, block_tokens), strict=False)
                ]
                output[head, start:stop] = _attend_tile(
                    scaled[head, start:stop], keys[kv_head], values[kv_head], seen, scores
                )

        self._team.run(work)

    def _prefill_few(
        self, queries: Array, keys: Array, values: Array, past: Reach, present: Reach, output: Array
    ) -> None:
        """A chunk of few tokens: all heads of a group in one product, the past shared out among the threads."""
        kv_heads, (heads, n, _) = len(keys), queries.shape
        rows = queries.reshape(kv_heads, heads // kv_heads * n, -1)
        spans = _split(past, max(_SPAN_TOKENS, _SPAN_SCORES // rows.shape[1]))
        parts: list[Any] = [None] * len(spans)
        numbered = iter(enumerate(spans))

        def work() -> None:
            for i, span in numbered:
                parts[i] = _attend_row(rows, keys[:, span], values[:, span])

        self._team.run(work)
        new_keys = np.concatenate([keys[:, span] for span in present], axis=1)
        new_values = np.concatenate([values[:, span] for span in present], axis=1)
        parts.append(_attend_row(rows, new_keys, new_values, causal=n))
        mixed = np.empty((*rows.shape[:2], values.shape[-1]), np.float32)
        _join(parts, mixed)
        output[:] = mixed.reshape(output.shape)

    def verify(
        self,
        queries: Array,
        keys: Array,
        values: Array,
        table: Sequence[int],
        block_tokens: int,
        offset: int,
        scale: float,
        output: Array,
    ) -> None:
        """As :meth:`prefill`, for a row and its draft: so few tokens that they need not be kept apart from their past.

        In short contexts calls take most of the time, of which this makes half as many.
        """
        kv_heads, (heads, n, _) = len(keys), queries.shape
        rows = np.multiply(queries, np.float32(scale)).reshape(kv_heads, heads // kv_heads * n, -1)
        seen: Sequence[slice] = reach(table, offset + n, block_tokens)
        is_short = self._team.size == 1 or offset < 2 * _TOKENS_PER_THREAD
        spans = seen if is_short else _split(tuple(seen), -(-(offset + n) // self._team.size))
        starts = itertools.accumulate((span.stop - span.start for span in spans[:-1]), initial=0)
        parts: list[Any] = [None] * len(spans)
        numbered = iter([*enumerate(zip(spans, starts, strict=True))])

        def work() -> None:
            for i, (span, start) in numbered:
                parts[i] = _attend_in_order(rows, keys[:, span], values[:, span], n, offset - start)

        work() if is_short else self._team.run(work)
        mixed = np.empty((*rows.shape[:2], values.shape[-1]), np.float32)
        _join(parts, mixed)
        output[:] = mixed.reshape(output.shape)

    def decode(
        self, queries: Array, keys: Array, values: Array, seen: Sequence[Reach], scale: float, output: Array
    ) -> None:
        """Attention of rows ``[batch, heads, head_dim]`` on what each has ``seen``, into ``[batch, heads, dim]``."""
        batch, heads, head_dim = queries.shape
        kv_heads = keys.shape[0]
        rows = np.multiply(queries, np.float32(scale)).reshape(batch, kv_heads, heads // kv_heads, head_dim)
        mixed = output.reshape(batch, kv_heads, heads // kv_heads, -1)
        short = [i for i, ranges in enumerate(seen) if len(ranges) == 1 and _tokens(ranges) <= _SHORT]
        if len(short) > 1:
            _attend_short_rows([(rows[i], seen[i][0], mixed[i]) for i in short], keys, values)
        for i in range(batch) if len(short) < 2 else sorted(set(range(batch)) - set(short)):
            self._decode_row(rows[i], keys, values, seen[i], mixed[i])

    def _decode_row(self, rows: Array, keys: Array, values: Array, seen: Reach, mixed: Array) -> None:
        tokens = _tokens(seen)
        if self._team.size == 1 or tokens < 2 * _TOKENS_PER_THREAD:
            parts: list[Any] = [_attend_row(rows, keys[:, span], values[:, span]) for span in seen]
        else:
            spans = _split(seen, -(-tokens // self._team.size))
            parts = [None] * len(spans)  # in their order, whichever thread is first: sums depend on it
            numbered = iter(enumerate(spans))

            def work() -> None:
                for i, span in numbered:
                    parts[i] = _attend_row(rows, keys[:, span], values[:, span])

            self._team.run(work)
        _join(parts, mixed)


def _tile_starts(offset: int, n: int, block_tokens: int) -> list[int]:
    """Where query tiles start, and the end: no tile is longer than ``_ROWS_PER_TILE`` or crosses a block border."""
    borders = {0, n}
    for start in range(offset - offset % block_tokens, offset + n, block_tokens):
        borders.update(range(start - offset, start - offset + block_tokens, _ROWS_PER_TILE))
    return sorted(border for border in borders if 0 <= border <= n)


def _attend_tile(queries: Array, keys: Array, values: Array, seen: Sequence[slice], scratch: Array) -> Array:
    """Online softmax of one head's scaled queries ``[rows, head_dim]`` over ``seen``, whose end is these rows' own."""
    rows = len(queries)
    peak: Array | None = None
    for span in seen:
        scores = scratch[:rows, : span.stop - span.start]
        np.matmul(queries, keys[span].T, out=scores)
        if span is seen[-1]:
            _mask_future(scores)
        span_peak = np.maximum.reduce(scores, axis=1, keepdims=True)
        new_peak = span_peak if peak is None else np.maximum(peak, span_peak)
        np.subtract(scores, new_peak, out=scores)
        np.exp(scores, out=scores)
        span_total = np.add.reduce(scores, axis=1, keepdims=True)
        span_mixed = scores @ values[span]
        if peak is None:
            total, mixed = span_total, span_mixed
        else:
            fade = np.exp(peak - new_peak)
            total = total * fade + span_total
            mixed *= fade
            mixed += span_mixed
        peak = new_peak
    mixed /= total
    return mixed


def _mask_future(scores: Array) -> None:
    """Row ``i`` sees all columns but those of the rows behind it, which are the last ones."""
    rows, columns = scores.shape
    if rows > 1:
        scores[:, columns - rows :][np.triu_indices(rows, 1)] = -np.inf


class _Part(NamedTuple):
    """Attention on some positions, not yet normalised: peak and total ``[kv_heads, group, 1]``, and the mix."""

    peak: Array
    total: Array
    mixed: Array


def _attend_row(rows: Array, keys: Array, values: Array, causal: int = 0) -> _Part:
    """Scaled rows ``[kv_heads, rows, head_dim]`` on ``[kv_heads, tokens, head_dim]``.

    With ``causal`` the rows are those of as many tokens as there are keys, head after head: each sees no later token.
    """
    scores: Array = rows @ keys.transpose(0, 2, 1)
    if causal > 1:
        future = np.triu_indices(causal, 1)
        scores.reshape(len(scores), -1, causal, causal)[:, :, future[0], future[1]] = -np.inf
    peak = np.maximum.reduce(scores, axis=2, keepdims=True)
    np.subtract(scores, peak, out=scores)
    np.exp(scores, out=scores)
    return _Part(peak, np.add.reduce(scores, axis=2, keepdims=True), scores @ values)


def _attend_in_order(rows: Array, keys: Array, values: Array, n: int, first: int) -> _Part:
    """Scaled rows of ``n`` tokens, head after head; the first token sees the keys up to ``first``, each other one more.

    ``first`` may lie before the keys or behind them. A row that sees none of them counts for nothing.
    """
    scores: Array = rows @ keys.transpose(0, 2, 1)
    columns, seen_by_all = keys.shape[1], max(0, first + 1)
    if columns > seen_by_all:
        future = ~np.tri(n, columns - seen_by_all, first - seen_by_all, dtype=np.bool_)
        scores.reshape(len(scores), -1, n, columns)[..., seen_by_all:][..., future] = -np.inf
    peak = np.maximum.reduce(scores, axis=2, keepdims=True, initial=np.float32(-1e30))
    np.subtract(scores, peak, out=scores)
    np.exp(scores, out=scores)
    return _Part(peak, np.add.reduce(scores, axis=2, keepdims=True), scores @ values)


def _attend_short_rows(rows: Sequence[tuple[Array, slice, Array]], keys: Array, values: Array) -> None:
    """Rows with what they see and where their result goes; one softmax for all, the shorter ones padded with -inf."""
    longest = max(span.stop - span.start for _, span, _ in rows)
    scores = np.full((len(rows), *rows[0][0].shape[:2], longest), -np.inf, np.float32)
    for own, (row, span, _) in zip(scores, rows, strict=True):
        np.matmul(row, keys[:, span].transpose(0, 2, 1), out=own[:, :, : span.stop - span.start])
    np.subtract(scores, np.maximum.reduce(scores, axis=3, keepdims=True), out=scores)
    np.exp(scores, out=scores)
    np.divide(scores, np.add.reduce(scores, axis=3, keepdims=True), out=scores)
    for own, (_, span, mixed) in zip(scores, rows, strict=True):
        np.matmul(own[:, :, : span.stop - span.start], values[:, span], out=mixed)


def _tokens(seen: Reach) -> int:
    return sum(span.stop - span.start for span in seen)


def _split(seen: Reach, most: int) -> list[slice]:
    """The same tokens in ranges of at most ``most``."""
    return [slice(start, min(start + most, span.stop)) for span in seen for start in range(span.start, span.stop, most)]


def _join(parts: Sequence[_Part], output: Array) -> None:
    """Join attention on disjoint positions, and normalise."""
    if len(parts) == 1:
        np.divide(parts[0].mixed, parts[0].total, out=output)
        return
    peak = np.maximum.reduce([part.peak for part in parts])
    fades = [np.exp(part.peak - peak) for part in parts]
    total = np.add.reduce([part.total * fade for part, fade in zip(parts, fades, strict=True)])
    mixed = np.add.reduce([part.mixed * fade for part, fade in zip(parts, fades, strict=True)])
    np.divide(mixed, total, out=output)
