"""Tokens are drawn as mlx_lm draws them, and a row's draw depends on its seed and index alone."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_sampler

from semantic.adapters.mlx.contiguous_cache import ContiguousSequenceCache
from semantic.adapters.mlx.sampler import Sampler
from semantic.application.ports.model import DecodeRow, Drawn
from semantic.domain.value_objects import SamplingParams

pytestmark = pytest.mark.mlx

LOGITS = mx.array(np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32) * 2)


def row(*, seed: int = 0, index: int = 0, cache: Any = None, **sampling: Any) -> DecodeRow:
    return DecodeRow(cache or ContiguousSequenceCache([]), 0, SamplingParams(**sampling), seed, index, history=(0,))


def tokens(drawn: Sequence[Drawn]) -> list[int]:
    return [one.token_id for one in drawn]


def draws(sampler: Sampler, logits: mx.array, seed: int, count: int, **sampling: Any) -> list[int]:
    """``count`` tokens of one request, one after the other."""
    cache = ContiguousSequenceCache([])
    rows = (row(seed=seed, index=index, cache=cache, **sampling) for index in range(count))
    return [token for one in rows for token in tokens(sampler.choose(logits, [one]))]


@pytest.mark.parametrize("on_host", [True, False])
def test_greedy_is_the_argmax_of_every_row(on_host: bool) -> None:
    drawn = Sampler(on_host=on_host).choose(LOGITS, [row()] * 4)
    assert tokens(drawn) == np.array(LOGITS).argmax(axis=-1).tolist()


@pytest.mark.parametrize("on_host", [True, False])
def test_of_equal_logits_the_first_is_taken(on_host: bool) -> None:
    assert tokens(Sampler(on_host=on_host).choose(mx.array([[1.0, 3.0, 3.0, 2.0]]), [row()])) == [1]


def test_half_precision_ties_are_broken_as_mlx_lm_breaks_them() -> None:
    logits = mx.array([[1.0, 1.0078125, *[0.99] * 30_000]]).astype(mx.bfloat16)  # log-probabilities of about -10.3
    expected = mx.argmax(logits - mx.logsumexp(logits, axis=-1, keepdims=True), axis=-1).item()
    assert tokens(Sampler(on_host=True).choose(logits, [row()])) == [expected] == [0]


@pytest.mark.parametrize(
    "filters",
    [{}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 5}, {"top_p": 0.9, "min_p": 0.05, "top_k": 8}, {"top_p": 1.0}],
    ids=str,
)
def test_sampled_tokens_are_those_of_mlx_lms_sampler_after_seeding(filters: dict[str, Any]) -> None:
    logits = LOGITS[:1]
    mx.random.seed(42)
    stock = make_sampler(temp=0.9, **filters)
    expected = [int(stock(logits - mx.logsumexp(logits, axis=-1, keepdims=True))) for _ in range(12)]
    assert draws(Sampler(on_host=True), logits, 42, 12, temp=0.9, **filters) == expected
    assert len(set(expected)) > 2


def test_a_row_draws_the_same_among_other_rows_and_in_any_order() -> None:
    alone = [Sampler(on_host=True).choose(LOGITS[i : i + 1], [row(seed=i, index=3, temp=1.0)])[0] for i in range(4)]
    rows = [row(seed=i, index=3, temp=1.0) for i in range(4)]
    assert Sampler(on_host=True).choose(LOGITS, rows) == alone
    assert Sampler(on_host=True).choose(LOGITS[::-1], rows[::-1]) == alone[::-1]


def test_greedy_and_sampled_rows_may_share_a_step() -> None:
    greedy, sampled = row(), row(seed=5, temp=1.0)
    alone = [Sampler(on_host=True).choose(LOGITS[i : i + 1], [one])[0] for i, one in enumerate((greedy, sampled))]
    assert Sampler(on_host=True).choose(LOGITS[:2], [greedy, sampled]) == alone


def test_the_draw_at_an_index_does_not_need_those_before_it() -> None:
    assert tokens(Sampler(on_host=True).choose(LOGITS[:1], [row(seed=9, index=7, temp=1.0)])) == [
        draws(Sampler(on_host=True), LOGITS[:1], 9, 8, temp=1.0)[-1]
    ]


def test_seeds_of_64_bits_are_told_apart() -> None:
    seeds: Sequence[int] = (0, 1, 2**63, 2**64 - 1)
    assert len({tuple(draws(Sampler(on_host=True), LOGITS[:1], seed, 10, temp=1.0)) for seed in seeds}) == 4


def test_drawing_leaves_mlxs_global_randomness_alone() -> None:
    mx.random.seed(3)
    expected = mx.random.uniform(shape=(3,)).tolist()
    mx.random.seed(3)
    draws(Sampler(on_host=True), LOGITS[:1], 1, 5, temp=1.0, top_p=0.9, min_p=0.1, top_k=3)
    assert mx.random.uniform(shape=(3,)).tolist() == expected


def test_a_sampled_request_equals_mlx_lms_own_generation_after_seeding(tiny_llama: Callable[..., Any]) -> None:
    import semantic

    model, prompt = tiny_llama(), list(range(1, 20))
    mx.random.seed(11)
    sampler = make_sampler(temp=1.3, top_p=0.95)
    expected = [token for token, _ in generate_step(mx.array(prompt), model, max_tokens=10, sampler=sampler)]
    sampling = {"temp": 1.3, "top_p": 0.95, "max_tokens": 10}
    for options in ({}, {"cache_layout": "contiguous"}, {"exactness": "bit"}):
        with semantic.open((model, None), memory="64MB", **options) as engine:
            mates = [engine.submit([seed] * 9, seed=seed, **sampling) for seed in range(3)]
            assert list(engine.generate(prompt, seed=11, **sampling).token_ids) == expected
            assert all(len(mate.result().token_ids) == 10 for mate in mates)


@pytest.mark.parametrize("xtc", [{"xtc_threshold": 0.02}, {"xtc_threshold": 0.02, "xtc_special_tokens": [5, 7]}])
def test_xtc_draws_what_mlx_lms_sampler_draws_after_seeding(xtc: dict[str, Any]) -> None:
    logits = LOGITS[:1]
    mx.random.seed(7)
    stock = make_sampler(temp=0.9, top_p=0.95, top_k=20, xtc_probability=0.5, **xtc)
    expected = [int(stock(logits - mx.logsumexp(logits, axis=-1, keepdims=True))) for _ in range(16)]
    sampler = Sampler(on_host=True)
    assert draws(sampler, logits, 7, 16, temp=0.9, top_p=0.95, top_k=20, xtc_probability=0.5, **xtc) == expected
    assert expected != draws(sampler, logits, 7, 16, temp=0.9, top_p=0.95, top_k=20)


def test_a_processor_of_one_row_leaves_the_logits_of_the_others_alone() -> None:
    best = np.array(LOGITS).argmax(axis=-1).tolist()
    forbid = row(logit_bias={best[1]: -100.0}, repetition_penalty=1.5)
    drawn = tokens(Sampler(on_host=True).choose(LOGITS, [row(), forbid, row(), row()]))
    assert [drawn[0], *drawn[2:]] == [best[0], *best[2:]]
    assert drawn[1] != best[1]
