"""Caches that are quantised in compute say what mlx_lm says with such caches from the first token on.

Tiny models with random weights; the reference is stock ``generate_step``, given a prompt cache of ``QuantizedKVCache``,
or of ours where keys and values differ in bits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import KVCache, make_prompt_cache
from tiny_models import ARCHITECTURES, DENSE, Architecture, build

import semantic
from semantic.adapters.mlx.mixed_cache import make_quantised_cache
from semantic.adapters.mlx.sampler import Sampler

pytestmark = pytest.mark.mlx

NEW_TOKENS = 6
CHUNK = 64
GROUP = 32

MODELS = {
    "llama": Architecture("llama", DENSE | {"head_dim": 32}),
    "qwen3": Architecture("qwen3", DENSE | {"head_dim": 64, "rope_theta": 1e4}),
    "recurrent and full attention": Architecture(
        "lfm2", ARCHITECTURES["lfm2"].arguments | {"hidden_size": 128, "block_dim": 128}
    ),
}
PRECISIONS = [(name, bits) for name in MODELS for bits in (8, "8/4", 4)]
TOLERANCE = {8: 0.01, "8/4": 0.02, 4: 0.05}
SIDES = {8: (8, 8), "8/4": (8, 4), 4: (4, 4)}
"""Of the logits' spread: where sums are rounded otherwise, a key or value may fall on the code beside."""


def ids(tokens: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 128, tokens)]


PROMPTS = [ids(tokens, seed=tokens) for tokens in (9, 150, 300)]


def cold(model: nn.Module, bits: Any, prompt: Sequence[int]) -> tuple[list[int], list[Any]]:
    """Tokens and log-probabilities of stock mlx_lm, on exact caches if ``bits`` is None."""
    caches = make_prompt_cache(model)
    if bits is not None:
        caches = [make_quantised_cache(GROUP, *SIDES[bits]) if type(cache) is KVCache else cache for cache in caches]
    steps = generate_step(mx.array(prompt), model, max_tokens=NEW_TOKENS, prefill_step_size=CHUNK, prompt_cache=caches)
    tokens, logprobs = zip(*steps, strict=True)
    return list(tokens), [np.array(each.astype(mx.float32)) for each in logprobs]


def tokens_of(model: nn.Module, bits: Any, prompt: Sequence[int]) -> tuple[int, ...]:
    return tuple(cold(model, bits, prompt)[0])


def opened(model: nn.Module, bits: Any, **options: Any) -> semantic.Engine:
    given = {"memory": "64MB", "prefill_step_size": CHUNK, "kv_bits": bits, "kv_group_size": GROUP, **options}
    return semantic.open((model, None), **given)


@pytest.fixture(scope="module", params=PRECISIONS, ids=lambda case: f"{case[0]}, {case[1]} bits")
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Any]:
    name, bits = request.param
    return build(MODELS[name]), bits


@pytest.fixture
def llama() -> nn.Module:
    return build(MODELS["llama"])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The log-probabilities that the engine draws from, of one row at a time."""
    logprobs: list[Any] = []
    choose = Sampler.choose

    def recording(self: Sampler, logits: mx.array, rows: Any) -> list[int]:
        normal = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        logprobs.extend(np.array(normal.astype(mx.float32)))
        return choose(self, logits, rows)

    monkeypatch.setattr(Sampler, "choose", recording)
    return logprobs


def largest_difference(actual: Sequence[Any], expected: Sequence[Any]) -> float:
    """As a share of the expected ones' spread."""
    off = max(float(np.abs(a - b).max()) for a, b in zip(actual, expected, strict=True))
    return off / max(float(np.ptp(each)) for each in expected)


def test_a_batch_of_three_lengths_in_several_chunks_says_what_each_prompt_alone_says(
    case: tuple[nn.Module, Any],
) -> None:
    model, bits = case
    with opened(model, bits) as engine:
        assert (engine.profile.batching, engine.profile.cache_layout) == ("ragged", "contiguous")
        done = engine.batch_generate(PROMPTS, max_tokens=NEW_TOKENS)
        assert [each.token_ids for each in done] == [tokens_of(model, bits, prompt) for prompt in PROMPTS]


def test_logits_are_those_of_quantised_caches_and_not_of_exact_ones(
    case: tuple[nn.Module, Any], seen: list[Any]
) -> None:
    model, bits = case
    with opened(model, bits) as engine:
        for prompt in PROMPTS:
            engine.generate(prompt, max_tokens=NEW_TOKENS)
    expected, exact = (
        [logprobs for prompt in PROMPTS for logprobs in cold(model, each, prompt)[1]] for each in (bits, None)
    )
    off = largest_difference(seen, expected)
    assert off < TOLERANCE[bits]
    assert off < largest_difference(exact, expected) / 10


def test_logits_of_a_batch_are_those_of_each_alone(case: tuple[nn.Module, Any], seen: list[Any]) -> None:
    model, bits = case
    prompts = [ids(40, seed=seed) for seed in range(3)]
    with opened(model, bits) as engine:
        engine.batch_generate(prompts, max_tokens=NEW_TOKENS)
    for expected in (logprobs for prompt in prompts for logprobs in cold(model, bits, prompt)[1]):
        nearest = min(seen, key=lambda logprobs: float(np.abs(logprobs - expected).max()))
        assert largest_difference([nearest], [expected]) < TOLERANCE[bits]


def test_a_context_that_grows_turn_by_turn_is_taken_up_where_it_ended(case: tuple[nn.Module, Any]) -> None:
    model, bits = case
    with opened(model, bits) as engine:
        context, known = ids(290), 0
        for turn in range(3):
            done = engine.generate(context, max_tokens=NEW_TOKENS)
            assert done.token_ids == tokens_of(model, bits, context)
            assert done.usage.cached_tokens == known
            known = len(context) + NEW_TOKENS - 1
            context = [*context, *done.token_ids, *ids(24, seed=turn)]


def test_logits_behind_a_reused_context_are_those_of_a_cold_run(case: tuple[nn.Module, Any], seen: list[Any]) -> None:
    model, bits = case
    prompt = ids(300)
    with opened(model, bits) as engine:
        engine.generate(prompt, max_tokens=1)
        seen.clear()
        done = engine.generate([*prompt, *ids(30, seed=1)], max_tokens=NEW_TOKENS)
        assert done.usage.cached_tokens == 300
    assert largest_difference(seen, cold(model, bits, [*prompt, *ids(30, seed=1)])[1]) < TOLERANCE[bits]


def test_after_a_restart_the_context_comes_from_the_store(case: tuple[nn.Module, Any], tmp_path: Path) -> None:
    model, bits = case
    prompt = ids(300)
    with opened(model, bits, store=tmp_path) as engine:
        before = engine.generate(prompt, max_tokens=NEW_TOKENS)
    longer = [*prompt, *before.token_ids, *ids(9, seed=1)]
    with opened(model, bits, store=tmp_path) as engine:
        after = engine.generate(longer, max_tokens=NEW_TOKENS)
        assert after.token_ids == tokens_of(model, bits, longer)
        assert after.usage.cached_tokens == len(prompt) + NEW_TOKENS - 1
        assert engine.stats().cached_tokens_from_store == after.usage.cached_tokens


def test_forks_part_and_neither_disturbs_the_other(case: tuple[nn.Module, Any]) -> None:
    model, bits = case
    with opened(model, bits) as engine:
        alice = engine.agent("alice")
        alice.generate(ids(100), max_tokens=NEW_TOKENS)
        bob = alice.fork("bob")
        for agent, seed in ((alice, 1), (bob, 2), (alice, 3), (bob, 4)):
            context = [*agent.tokens, *ids(10, seed=seed)]
            done = agent.generate(ids(10, seed=seed), max_tokens=NEW_TOKENS)
            assert done.token_ids == tokens_of(model, bits, context)


def test_a_cut_inside_a_block_is_taken_up_at_that_token(llama: nn.Module) -> None:
    prompt = ids(100)
    with opened(llama, 8) as engine:
        engine.generate(prompt, max_tokens=1)
        branch = [*prompt[:70], *ids(20, seed=3)]
        done = engine.generate(branch, max_tokens=NEW_TOKENS)
        assert done.usage.cached_tokens == 70
        assert done.token_ids == tokens_of(llama, 8, branch)


@pytest.mark.parametrize("bits", [8, "8/4", 4])
def test_the_bit_lane_is_mlx_lm_with_quantised_caches_to_the_last_bit(
    llama: nn.Module, bits: Any, seen: list[Any]
) -> None:
    with opened(llama, bits, exactness="bit") as engine:
        assert engine.profile.batching == "one by one"
        done = [engine.generate(prompt, max_tokens=NEW_TOKENS) for prompt in PROMPTS]
    expected = [cold(llama, bits, prompt) for prompt in PROMPTS]
    assert [list(each.token_ids) for each in done] == [tokens for tokens, _ in expected]
    assert all(map(np.array_equal, seen, [logprobs for _, run in expected for logprobs in run]))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_half_precision_keeps_its_scales_in_half_precision(dtype: mx.Dtype) -> None:
    model = build(MODELS["llama"], weights=1.0)
    model.set_dtype(dtype)
    with opened(model, 4) as engine:
        spec = engine.profile.cache_spec
        assert spec.bytes_per_token == 2 * 2 * 2 * (32 // 2 + 2 + 2)
        assert len(engine.batch_generate(PROMPTS, max_tokens=NEW_TOKENS)) == 3


def test_attention_that_multiplies_by_itself_reads_what_the_mixed_codes_stand_for(seen: list[Any]) -> None:
    model = build(Architecture("gemma2", ARCHITECTURES["gemma2"].arguments | {"head_dim": GROUP}))
    with opened(model, "8/4") as engine:
        assert engine.profile.batching == "one by one"
        done = [engine.generate(prompt, max_tokens=NEW_TOKENS) for prompt in PROMPTS[:2]]
    assert [each.token_ids for each in done] == [tokens_of(model, "8/4", prompt) for prompt in PROMPTS[:2]]
    expected = [logprobs for prompt in PROMPTS[:2] for logprobs in cold(model, "8/4", prompt)[1]]
    assert largest_difference(seen, expected) < 1e-4


def test_blocks_of_one_precision_are_not_those_of_another(llama: nn.Module, tmp_path: Path) -> None:
    prompt = ids(300)
    for options in (
        {"kv_bits": 8},
        {"kv_bits": "8/4"},
        {"kv_bits": 4},
        {"kv_bits": None, "cache_layout": "contiguous"},
    ):
        with opened(llama, 8, store=tmp_path, **options) as engine:
            assert engine.generate(prompt, max_tokens=1).usage.cached_tokens == 0
            assert engine.generate(prompt, max_tokens=1).usage.cached_tokens == 299
    with opened(llama, 8, store=tmp_path) as engine:
        assert engine.generate(prompt, max_tokens=1).usage.cached_tokens == 299
