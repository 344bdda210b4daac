"""The engine says what mlx_lm says, whatever the architecture, and leaves the model as it found it.

Tiny models with random weights, made in memory; the reference runs before the engine opens and after it closed.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from tiny_models import (
    ARCHITECTURES,
    CHUNK,
    DENSE,
    NEW_TOKENS,
    PROMPTS,
    Architecture,
    Reference,
    build,
    prompt,
    reference,
)

import semantic
from semantic.adapters.mlx.sampler import Sampler
from semantic.domain.errors import PromptTooLongError

pytestmark = pytest.mark.mlx


def tokens_of(engine: semantic.Engine) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in engine.batch_generate(PROMPTS, max_tokens=NEW_TOKENS)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    return build(ARCHITECTURES[name])


@pytest.fixture(scope="module")
def expected(model: nn.Module) -> Reference:
    return reference(model)


@pytest.mark.parametrize("options", [{}, {"cache_layout": "contiguous"}, {"exactness": "bit"}], ids=str)
def test_a_batch_of_three_lengths_gives_mlx_lms_tokens_and_leaves_mlx_lm_bit_equal(
    name: str, model: nn.Module, expected: Reference, options: dict[str, Any]
) -> None:
    with semantic.open((model, None), memory="64MB", prefill_step_size=CHUNK, **options) as engine:
        lane = (engine.profile.batching, engine.profile.cache_layout)
        assert tokens_of(engine) == expected.tokens
        assert reference(model).is_bit_equal(expected)
        assert tokens_of(engine) == expected.tokens
    assert reference(model).is_bit_equal(expected)
    if not options:
        assert lane == (ARCHITECTURES[name].batching, ARCHITECTURES[name].layout)


def test_the_bit_lane_with_mlx_lms_own_chunk_is_mlx_lm_out_of_the_box() -> None:
    model = build(ARCHITECTURES["llama"])
    expected = reference(model, prefill_step_size=2048)
    with semantic.open((model, None), memory="64MB", exactness="bit") as engine:
        assert engine.profile.prefill_step_size == 2048
        assert tokens_of(engine) == expected.tokens


@pytest.mark.parametrize("name", ["llama", "sliding llama", "gpt2", "mamba"])
def test_the_bit_lanes_logits_are_mlx_lms_to_the_last_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(ARCHITECTURES[name])
    expected = reference(model)
    seen: list[np.ndarray[Any, Any]] = []
    choose = Sampler.choose

    def recording(self: Sampler, logits: mx.array, rows: Any) -> list[int]:
        logprobs = logits - mx.logsumexp(logits, keepdims=True)
        seen.append(np.array(logprobs[0].astype(mx.float32)))
        return choose(self, logits, rows)

    monkeypatch.setattr(Sampler, "choose", recording)
    with semantic.open((model, None), memory="64MB", exactness="bit", prefill_step_size=CHUNK) as engine:
        for ids in PROMPTS:
            engine.generate(ids, max_tokens=NEW_TOKENS)
    assert len(seen) == len(expected.logprobs)
    assert all(map(np.array_equal, seen, expected.logprobs))


@pytest.mark.parametrize("name", ["llama", "llama3 rope", "yarn rope", "deepseek_v2", "mamba"])
def test_a_model_that_was_never_evaluated_runs_on_the_engines_thread_and_then_on_the_callers(name: str) -> None:
    expected = reference(build(ARCHITECTURES[name]))
    lazy = build(ARCHITECTURES[name])
    with semantic.open((lazy, None), memory="64MB", prefill_step_size=CHUNK) as engine:
        assert tokens_of(engine) == expected.tokens
    assert reference(lazy).is_bit_equal(expected)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_half_precision_models_draw_mlx_lms_tokens_where_rounding_makes_log_probabilities_tie(dtype: mx.Dtype) -> None:
    model = build(Architecture("llama", DENSE | {"vocab_size": 2000}), weights=1.0)
    model.set_dtype(dtype)
    expected = reference(model)
    with semantic.open((model, None), memory="64MB", prefill_step_size=CHUNK) as engine:
        assert engine.profile.cache_layout == "contiguous"
        assert tokens_of(engine) == expected.tokens


def test_large_projections_that_run_on_the_host_give_the_same_tokens_and_are_given_back() -> None:
    model = build(Architecture("llama", DENSE | {"vocab_size": 70_000}), weights=1.0)
    classes = [type(module) for module in model.modules()]
    expected = reference(model)
    with (
        semantic.open((model, None), memory="64MB", prefill_step_size=CHUNK) as first,
        semantic.open((model, None), memory="64MB", prefill_step_size=CHUNK) as second,
    ):
        assert tokens_of(first) == expected.tokens
        first.close()
        assert tokens_of(second) == expected.tokens
        assert reference(model).is_bit_equal(expected)
    assert [type(module) for module in model.modules()] == classes
    assert reference(model).is_bit_equal(expected)


def test_a_table_of_learned_positions_bounds_the_context() -> None:
    with (
        semantic.open((build(ARCHITECTURES["gpt2"]), None), memory="64MB") as engine,
        pytest.raises(PromptTooLongError, match="context holds 256"),
    ):
        engine.generate(prompt(256))


def test_two_engines_on_one_model_may_be_open_in_turn_and_at_once() -> None:
    model = build(ARCHITECTURES["llama"])
    expected = reference(model)
    with semantic.open((model, None), memory="64MB", prefill_step_size=CHUNK) as first:
        with semantic.open((model, None), memory="64MB", exactness="bit", prefill_step_size=CHUNK) as second:
            assert tokens_of(second) == expected.tokens
            assert tokens_of(first) == expected.tokens
        assert tokens_of(first) == expected.tokens
    assert reference(model).is_bit_equal(expected)
