"""What the suite's tolerance can tell apart: mistakes move log-probabilities by far more than it allows."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from attrs import evolve
from conformance.harness import TOLERANCE, Array, Examination, NotEqualError, ids
from mlx_lm.models.cache import ArraysCache, KVCache, RotatingKVCache, make_prompt_cache
from tiny_zoo import build_zoo_model

from semantic.domain.value_objects import Completion

pytestmark = pytest.mark.mlx

CONTEXT = ids(20)


def after(model: Any, caches: Sequence[Any], token: int = 5) -> Array:
    logits = model(mx.array([[token]]), cache=caches)
    return np.array(logits[0, -1].astype(mx.float32) - mx.logsumexp(logits[0, -1].astype(mx.float32)))


def prefilled(model: Any, caches: Sequence[Any] | None = None) -> list[Any]:
    caches = list(caches or make_prompt_cache(model))
    mx.eval(model(mx.array([CONTEXT]), cache=caches))
    return caches


def off(right: Array, wrong: Array) -> float:
    return float(np.abs(right - wrong).max() / np.ptp(right))


@pytest.mark.parametrize("name", ["llama with windows", "gemma3", "gpt_oss with sinks"])
def test_a_window_that_is_one_token_off_is_far_beyond_the_tolerance(name: str) -> None:
    model = build_zoo_model(name)
    wrong = make_prompt_cache(model)
    for cache in wrong:
        if isinstance(cache, RotatingKVCache):
            cache.max_size -= 1
    assert off(after(model, prefilled(model)), after(model, prefilled(model, wrong))) > 5 * TOLERANCE


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3"])
def test_a_position_that_is_one_off_is_far_beyond_the_tolerance(name: str) -> None:
    model = build_zoo_model(name)
    right, wrong = prefilled(model), prefilled(model)
    for cache in wrong:
        if isinstance(cache, KVCache):
            keys, values = cache.keys_and_values()
            cache.keys = mx.concatenate([keys[..., :1, :], keys], axis=2)
            cache.values = mx.concatenate([values[..., :1, :], values], axis=2)
            cache.offset += 1
    assert off(after(model, right), after(model, wrong)) > 5 * TOLERANCE


@pytest.mark.parametrize("name", ["mamba", "lfm2", "qwen3_next", "rwkv7"])
def test_a_state_that_is_lost_is_far_beyond_the_tolerance(name: str) -> None:
    model = build_zoo_model(name)
    right, wrong = prefilled(model), prefilled(model)
    for cache in wrong:
        if isinstance(cache, ArraysCache):
            cache.cache = [mx.zeros_like(state) for state in cache.cache]
    assert off(after(model, right), after(model, wrong)) > 5 * TOLERANCE


def test_a_wrong_token_and_wrong_log_probabilities_are_reported(tmp_path: Any) -> None:
    examination = Examination.of("llama", tmp_path)
    with examination.opened() as (engine, recorder):
        done: Completion = engine.generate(CONTEXT, max_tokens=3, seed=0)
    steps = recorder.steps[0]
    examination.hold(done, steps, CONTEXT)
    with pytest.raises(NotEqualError, match="log-probabilities are off by"):
        examination.hold(done, {place: step * 1.01 for place, step in steps.items()}, CONTEXT)
    with pytest.raises(NotEqualError, match="mlx_lm draws"):
        examination.hold(evolve(done, token_ids=done.token_ids[::-1]), steps, CONTEXT)
