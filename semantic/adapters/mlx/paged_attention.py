"""Attention over pages: scaled dot-product attention of new queries on a table of key/value blocks, in numpy.

On x86 MLX's softmax spends its time in a scalar ``exp``; numpy's is vectorised. The online softmax (Milakov and
Gimelshein 2018, arXiv 1805.02867) visits one block at a time, so the blocks need not be contiguous, and a score
tile stays in the L2 cache. Where a table's blocks do lie side by side, a decode row takes them in one call.
ADR 0003 has the measurements.
"""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_ROWS_PER_TILE = 128
"""Query rows per score tile: 128 x 256 float32 is 128 KiB, and the tiles divide evenly among threads."""

_SPLIT_DECODE_PAGES = 6
"""From this many full pages on, one row's attention is worth handing half of to a second thread."""


class Run(NamedTuple):
    """``count`` full pages of a table whose slots follow each other."""

    slots: slice
    count: int


class Reach(NamedTuple):
    """What one decode row sees: full pages in runs, then ``tail_tokens`` (>= 1) rows of slot ``tail``."""

    runs: tuple[Run, ...]
    tail: int
    tail_tokens: int


def reach(table: Sequence[int], tokens: int, block_tokens: int) -> Reach:
    """The first ``tokens`` (>= 1) positions of a table of slots."""
    full, tail_tokens = divmod(tokens - 1, block_tokens)
    runs: list[Run] = []
    for slot in table[:full]:
        if runs and runs[-1].slots.stop == slot:
            runs[-1] = Run(slice(runs[-1].slots.start, slot + 1), runs[-1].count + 1)
        else:
            runs.append(Run(slice(slot, slot + 1), 1))
    return Reach(tuple(runs), table[full], tail_tokens + 1)


class PagedAttention:
    """Computes attention on ``threads`` threads, the calling one included.

    ``keys`` and ``values`` are one layer's arena, ``[slots, kv_heads, block_tokens, head_dim]``. numpy's BLAS should
    run on one thread meanwhile (:mod:`semantic.adapters.mlx.numpy_blas`), or it fights with MLX's for the cores.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = max(1, threads)
        self._pool = (
            ThreadPoolExecutor(self._threads - 1, thread_name_prefix="semantic-attention")
            if self._threads > 1
            else None
        )

    def close(self) -> None:
        """End the helper threads. Closing twice is a no-op."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool, self._threads = None, 1

    def prefill(
        self, queries: Array, keys: Array, values: Array, table: Sequence[int], offset: int, scale: float
    ) -> Array:
        """Causal attention of ``queries`` ``[heads, n, head_dim]`` at positions ``offset`` to ``offset + n``.

        The table's slots already hold the keys and values of these positions. Returns ``[heads, n, value_dim]``.
        """
        heads, n, _ = queries.shape
        _, kv_heads, block_tokens, _ = keys.shape
        scaled = np.multiply(queries, np.float32(scale))
        output = np.empty((heads, n, values.shape[-1]), np.float32)
        starts = _tile_starts(offset, n, block_tokens)
        longest_first = iter([*itertools.product(range(heads), itertools.pairwise(starts))][::-1])

        def work() -> None:
            scores = np.empty((_ROWS_PER_TILE, block_tokens), np.float32)
            for head, (start, stop) in longest_first:
                kv_head = head * kv_heads // heads
                tile = _Tile(scaled[head, start:stop], offset + start, scores)
                output[head, start:stop] = tile.attend(keys[:, kv_head], values[:, kv_head], table)

        self._run([work] * self._threads)
        return output

    def decode(self, query: Array, keys: Array, values: Array, seen: Reach, scale: float) -> Array:
        """Attention of one row ``[heads, head_dim]`` on all that it has ``seen``. Returns ``[heads, value_dim]``."""
        heads, head_dim = query.shape
        kv_heads = keys.shape[1]
        rows = np.multiply(query, np.float32(scale)).reshape(kv_heads, heads // kv_heads, head_dim)
        tail = slice(0, seen.tail_tokens)
        parts = [_attend_pages(rows, keys[seen.tail, None, :, tail], values[seen.tail, None, :, tail])]
        pages = sum(run.count for run in seen.runs)
        if self._threads == 1 or pages < _SPLIT_DECODE_PAGES:
            parts += [_attend_pages(rows, keys[run.slots], values[run.slots]) for run in seen.runs]
        else:
            pieces = [piece for run in seen.runs for piece in _split(run.slots, -(-pages // self._threads))]
            queue = iter(pieces)

            def work() -> None:
                for piece in queue:
                    parts.append(_attend_pages(rows, keys[piece], values[piece]))

            self._run([work] * self._threads)
        return _normalise(parts).reshape(heads, -1)

    def _run(self, jobs: Sequence[Callable[[], None]]) -> None:
        others = [self._pool.submit(job) for job in jobs[1:]] if self._pool is not None else []
        try:
            jobs[0]()
        finally:
            for other in others:
                other.result()


class _Tile(NamedTuple):
    """Scaled queries of one head, ``[rows, head_dim]``, from position ``offset`` on, all within one block."""

    queries: Array
    offset: int
    scores: Array

    def attend(self, keys: Array, values: Array, table: Sequence[int]) -> Array:
        """Online softmax over this head's ``[slots, block_tokens, dim]``, page by page up to the tile's own."""
        rows, block_tokens = len(self.queries), keys.shape[1]
        last = self.offset // block_tokens
        peak: Array | None = None
        for page in range(last + 1):
            visible = block_tokens if page < last else self.offset + rows - page * block_tokens
            scores = self.scores[:rows, :visible]
            np.matmul(self.queries, keys[table[page], :visible].T, out=scores)
            if page == last:
                _mask_future(scores)
            page_peak = scores.max(axis=1, keepdims=True)
            new_peak = page_peak if peak is None else np.maximum(peak, page_peak)
            np.subtract(scores, new_peak, out=scores)
            np.exp(scores, out=scores)
            page_total = scores.sum(axis=1, keepdims=True)
            page_mixed = scores @ values[table[page], :visible]
            if peak is None:
                total, mixed = page_total, page_mixed
            else:
                fade = np.exp(peak - new_peak)
                total = total * fade + page_total
                mixed *= fade
                mixed += page_mixed
            peak = new_peak
        mixed /= total
        return mixed


def _tile_starts(offset: int, n: int, block_tokens: int) -> list[int]:
    """Where query tiles start, and the end: no tile is longer than ``_ROWS_PER_TILE`` or crosses a block border."""
    borders = {0, n}
    for start in range(offset - offset % block_tokens, offset + n, block_tokens):
        borders.update(range(start - offset, start - offset + block_tokens, _ROWS_PER_TILE))
    return sorted(border for border in borders if 0 <= border <= n)


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


def _attend_pages(rows: Array, keys: Array, values: Array) -> _Part:
    """Scaled rows ``[kv_heads, group, head_dim]`` on pages ``[pages, kv_heads, tokens, head_dim]``."""
    scores = rows @ keys.transpose(0, 1, 3, 2)
    peak = scores.max(axis=3, keepdims=True).max(axis=0)
    np.subtract(scores, peak, out=scores)
    np.exp(scores, out=scores)
    mixed = scores @ values
    return _Part(peak, scores.sum(axis=3, keepdims=True).sum(axis=0), mixed.sum(axis=0))


def _split(slots: slice, most: int) -> list[slice]:
    """The same slots in pieces of at most ``most``."""
    return [slice(i, min(i + most, slots.stop)) for i in range(slots.start, slots.stop, most)]


def _normalise(parts: Sequence[_Part]) -> Array:
    """Join attention on disjoint positions."""
    if len(parts) == 1:
        return np.divide(parts[0].mixed, parts[0].total)
    peak = np.maximum.reduce([part.peak for part in parts])
    fades = [np.exp(part.peak - peak) for part in parts]
    total = np.add.reduce([part.total * fade for part, fade in zip(parts, fades, strict=True)])
    mixed = np.add.reduce([part.mixed * fade for part, fade in zip(parts, fades, strict=True)])
    return np.divide(mixed, total)
