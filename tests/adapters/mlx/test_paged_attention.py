"""Attention over pages against softmax(q k^T) v in float64, wherever the pages lie."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.adapters.mlx import paged_attention
from semantic.adapters.mlx.paged_attention import PagedAttention, reach
from semantic.adapters.mlx.team import Team

Array = np.ndarray[Any, Any]

BOUND = 2e-6
"""Largest error allowed, as a share of the largest value."""


@pytest.fixture(scope="module", params=[1, 2], ids=["one thread", "two threads"])
def attention(request: pytest.FixtureRequest) -> Iterator[PagedAttention]:
    team = Team(request.param)
    yield PagedAttention(team)
    team.close()


@frozen
class Pages:
    """Keys and values of some sequences in one arena, and each sequence's table of slots."""

    keys: Array
    values: Array
    tables: list[list[int]]
    block_tokens: int

    def of(self, row: int, tokens: int) -> tuple[Array, Array]:
        """What a sequence holds, gathered: ``[kv_heads, tokens, dim]``."""
        places = [slot * self.block_tokens + i for slot in self.tables[row] for i in range(self.block_tokens)][:tokens]
        return self.keys[:, places], self.values[:, places]


def pages(
    rng: np.random.Generator, kv_heads: int, dims: tuple[int, int], block_tokens: int, lengths: list[int]
) -> Pages:
    """Pages scattered over an arena in which every row was written before: what is not ours must not count."""
    needed = [-(-length // block_tokens) for length in lengths]
    slots = rng.permutation(sum(needed) + 2)
    tables = [[int(slot) for slot in part] for part in np.split(slots[: sum(needed)], np.cumsum(needed)[:-1])]
    total = len(slots) * block_tokens
    keys, values = (rng.normal(size=(kv_heads, total, dim)).astype(np.float32) for dim in dims)
    return Pages(keys, values, tables, block_tokens)


def naive(queries: Array, keys: Array, values: Array, scale: float) -> Array:
    """Causal attention of ``[heads, n, dim]``, the last ``n`` of all positions, in float64."""
    heads, n, _ = queries.shape
    group = heads // keys.shape[0]
    k, v = (np.repeat(array.astype(np.float64), group, axis=0) for array in (keys, values))
    scores = scale * queries.astype(np.float64) @ k.transpose(0, 2, 1)
    tokens = keys.shape[1]
    hidden = np.arange(tokens)[None, :] > np.arange(tokens - n, tokens)[:, None]
    scores[:, hidden] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def error(actual: Array, expected: Array) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    return {
        "rng": np.random.default_rng(draw(st.integers(0, 2**32))),
        "kv_heads": kv_heads,
        "heads": kv_heads * group,
        "dims": (draw(st.sampled_from([4, 8, 64])), draw(st.sampled_from([4, 16]))),
        "block_tokens": draw(st.sampled_from([4, 16, 256])),
    }


@given(shape=shapes(), offset=st.integers(0, 300), n=st.integers(2, 300))
@settings(max_examples=40, deadline=None)
def test_a_chunk_attends_to_all_before_it_and_to_itself_in_order(
    attention: PagedAttention, shape: dict[str, Any], offset: int, n: int
) -> None:
    rng, heads, dims = shape["rng"], shape["heads"], shape["dims"]
    held = pages(rng, shape["kv_heads"], dims, shape["block_tokens"], [offset + n])
    queries = rng.normal(size=(heads, n, dims[0])).astype(np.float32)
    scale = dims[0] ** -0.5
    output = np.full((heads, n, dims[1]), np.nan, np.float32)
    attention.prefill(queries, held.keys, held.values, held.tables[0], held.block_tokens, offset, scale, output)
    assert error(output, naive(queries, *held.of(0, offset + n), scale)) < BOUND


@given(shape=shapes(), offset=st.integers(0, 2500), n=st.integers(2, 16))
@settings(max_examples=60, deadline=None)
def test_a_row_and_its_draft_attend_to_all_before_them_and_to_themselves_in_order(
    attention: PagedAttention, shape: dict[str, Any], offset: int, n: int
) -> None:
    rng, heads, dims = shape["rng"], shape["heads"], shape["dims"]
    held = pages(rng, shape["kv_heads"], dims, shape["block_tokens"], [offset + n])
    queries = rng.normal(size=(n, heads, 1, dims[0])).astype(np.float32)[:, :, 0].transpose(1, 0, 2)
    scale = dims[0] ** -0.5
    output = np.full((n, heads, 1, dims[1]), np.nan, np.float32)[:, :, 0].transpose(1, 0, 2)
    attention.verify(queries, held.keys, held.values, held.tables[0], held.block_tokens, offset, scale, output)
    assert error(output, naive(queries, *held.of(0, offset + n), scale)) < BOUND


@given(shape=shapes(), lengths=st.lists(st.integers(1, 2500), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_decode_rows_of_any_lengths_each_attend_to_their_own_pages(
    attention: PagedAttention, shape: dict[str, Any], lengths: list[int]
) -> None:
    rng, heads, dims = shape["rng"], shape["heads"], shape["dims"]
    held = pages(rng, shape["kv_heads"], dims, shape["block_tokens"], lengths)
    queries = rng.normal(size=(len(lengths), heads, dims[0])).astype(np.float32)
    scale = dims[0] ** -0.5
    output = np.full((len(lengths), heads, dims[1]), np.nan, np.float32)
    seen = [reach(table, length, held.block_tokens) for table, length in zip(held.tables, lengths, strict=True)]
    attention.decode(queries, held.keys, held.values, seen, scale, output)
    for row, length in enumerate(lengths):
        expected = naive(queries[row][:, None], *held.of(row, length), scale)[:, 0]
        assert error(output[row], expected) < BOUND


def test_neighbouring_slots_are_one_range_and_the_last_one_ends_with_the_tokens() -> None:
    assert reach([3, 4, 7, 0], tokens=27, block_tokens=8) == (slice(24, 40), slice(56, 64), slice(0, 3))
    assert reach([3, 4], tokens=8, block_tokens=8) == (slice(24, 32),)
    assert reach([2], tokens=1, block_tokens=8) == (slice(16, 17),)


def test_scores_far_apart_neither_overflow_nor_vanish(attention: PagedAttention) -> None:
    keys = np.zeros((1, 8, 1), np.float32)
    keys[0, :3, 0] = (-1e4, 1e4, -1e4)
    values = np.arange(8, dtype=np.float32).reshape(1, 8, 1)
    output = np.empty((1, 1, 1), np.float32)
    attention.decode(np.ones((1, 1, 1), np.float32), keys, values, [(slice(0, 3),)], 1.0, output)
    assert output.item() == 1.0
    chunk = np.empty((1, 3, 1), np.float32)
    attention.prefill(np.ones((1, 3, 1), np.float32), keys, values, [0], 8, 0, 1.0, chunk)
    assert chunk.ravel().tolist() == [0.0, 1.0, 1.0]


def test_the_same_row_gives_the_same_bits_whichever_thread_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_attention, "_TOKENS_PER_THREAD", 4)
    rng = np.random.default_rng(0)
    held = pages(rng, 2, (8, 8), 4, [200])
    queries, seen = rng.normal(size=(1, 4, 8)).astype(np.float32), [reach(held.tables[0], 200, 4)]
    team = Team(2)
    attend_row, bits = paged_attention._attend_row, set()
    for slow in range(6):
        calls = itertools.count()

        def delayed(*arguments: Any, calls: Any = calls, slow: int = slow) -> Any:
            time.sleep(0.01 if next(calls) == slow else 0)
            return attend_row(*arguments)

        monkeypatch.setattr(paged_attention, "_attend_row", delayed)
        output = np.empty((1, 4, 8), np.float32)
        PagedAttention(team).decode(queries, held.keys, held.values, seen, 0.35, output)
        bits.add(output.tobytes())
    team.close()
    assert len(bits) == 1
