"""Processors, penalties and log-probabilities are those of ``generate_step``, alone, in a batch and behind a cache."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from attrs import frozen
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_logits_processors, make_sampler

import semantic
from semantic.domain.value_objects import Completion

pytestmark = pytest.mark.mlx

NEW_TOKENS = 24
PROMPT = [index % 23 * 5 + 1 for index in range(70)]
"""Repeats itself, so that drafts from the prompt are verified on the way."""

LANES: list[dict[str, Any]] = [{}, {"cache_layout": "contiguous"}, {"exactness": "bit"}]


def by_parity(tokens: Any, logits: Any) -> Any:
    """A processor whose effect hangs on every token so far, and on how many there are."""
    total = int(tokens.sum()) + len(tokens)
    return logits - 3.0 * (mx.arange(logits.shape[-1]) % 2 == total % 2)


SAMPLINGS: dict[str, dict[str, Any]] = {
    "repetition": {"repetition_penalty": 1.8},
    "repetition, all tokens": {"repetition_penalty": 1.8, "repetition_context_size": 0},
    "presence": {"presence_penalty": 2.5, "presence_context_size": 100},
    "frequency": {"frequency_penalty": 1.5, "frequency_context_size": 60},
    "reward": {"presence_penalty": -1.0, "presence_context_size": 5},
    "bias": {"logit_bias": {3: 6.0, 17: 5.5, 40: float("-inf")}},
    "own": {"logits_processors": [by_parity]},
    "all": {
        "repetition_penalty": 1.3,
        "presence_penalty": 0.4,
        "frequency_penalty": 0.3,
        "logit_bias": {9: 2.0},
        "logits_processors": [by_parity],
    },
}
DRAWS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temp": 0.9, "top_p": 0.95, "seed": 5},
    "xtc": {"temp": 0.9, "xtc_probability": 0.5, "xtc_threshold": 0.1, "seed": 5},
}


@frozen
class Reference:
    """What ``generate_step`` yields."""

    tokens: tuple[int, ...]
    logprobs: list[np.ndarray]


def reference(
    model: Any, prompt: Sequence[int], *, logits_processors: Sequence[Any] = (), seed: int = 0, **given: Any
) -> Reference:
    drawing = ("temp", "top_p", "min_p", "top_k", "xtc_probability", "xtc_threshold")
    sampler = make_sampler(**{name: given.pop(name) for name in drawing if name in given})
    mx.random.seed(seed)
    steps = generate_step(
        mx.array(prompt),
        model,
        max_tokens=NEW_TOKENS,
        sampler=sampler,
        logits_processors=[*make_logits_processors(**given), *logits_processors],
        prefill_step_size=16,
    )
    drawn = [(token, np.array(logprobs)) for token, logprobs in steps]
    return Reference(tuple(token for token, _ in drawn), [logprobs for _, logprobs in drawn])


def open_engine(model: Any, **options: Any) -> semantic.Engine:
    return semantic.open((model, None), memory="64MB", **options)


@pytest.fixture(scope="module")
def model(tiny_llama: Callable[..., Any]) -> Any:
    return tiny_llama()


@pytest.mark.parametrize("options", LANES, ids=str)
@pytest.mark.parametrize("drawing", DRAWS)
def test_every_processor_draws_mlx_lms_tokens_alone_and_among_rows_with_and_without_processors(
    model: Any, drawing: str, options: dict[str, Any]
) -> None:
    samplings = {"none": {}} | SAMPLINGS
    given = [{**sampling, **DRAWS[drawing]} for sampling in samplings.values()]
    expected = [reference(model, PROMPT[: 30 + 4 * i], **one).tokens for i, one in enumerate(given)]
    assert len(set(expected)) == len(samplings)
    with open_engine(model, **options) as engine:

        def submitted(i: int) -> semantic.Request:
            return engine.submit(PROMPT[: 30 + 4 * i], max_tokens=NEW_TOKENS, **given[i])

        assert [submitted(i).result().token_ids for i in range(len(given))] == expected
        assert [one.result().token_ids for one in [submitted(i) for i in range(len(given))]] == expected


@pytest.mark.parametrize("options", LANES, ids=str)
def test_behind_a_cached_prefix_and_after_a_restart_processors_see_the_whole_prompt(
    model: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    sampling = SAMPLINGS["all"] | {"repetition_context_size": 0, "frequency_context_size": 0}
    expected = reference(model, PROMPT, **sampling).tokens
    for _ in range(2):
        with open_engine(model, store=tmp_path / "kv", **options) as engine:
            cold, hot = (engine.generate(PROMPT, max_tokens=NEW_TOKENS, **sampling) for _ in range(2))
        assert [cold.token_ids, hot.token_ids] == [expected, expected]
    if options.get("exactness") != "bit":  # which reuses whole chunks of 2,048 tokens only
        assert cold.usage.cached_tokens == hot.usage.cached_tokens == len(PROMPT) - 1


@pytest.mark.parametrize("options", LANES, ids=str)
@pytest.mark.parametrize("drawing", DRAWS)
def test_log_probabilities_are_those_that_mlx_lm_yields(model: Any, drawing: str, options: dict[str, Any]) -> None:
    sampling = {**SAMPLINGS["all"], **DRAWS[drawing]}
    expected = reference(model, PROMPT, **sampling)
    with open_engine(model, **options) as engine:
        mate = engine.submit(PROMPT[:9], max_tokens=NEW_TOKENS)
        done = engine.generate(PROMPT, max_tokens=NEW_TOKENS, logprobs=4, **sampling)
        mate.cancel()
    assert done.token_ids == expected.tokens
    assert_logprobs(done, expected, 4)


def test_a_greedy_row_without_processors_has_log_probabilities_too(model: Any) -> None:
    expected = reference(model, PROMPT)
    with open_engine(model) as engine:
        deltas = list(engine.stream(PROMPT, max_tokens=NEW_TOKENS, logprobs=2))
    done = deltas[-1].completion
    assert done is not None
    assert_logprobs(done, expected, 2)
    assert tuple(one for delta in deltas for one in delta.logprobs or ()) == done.logprobs


def assert_logprobs(done: Completion, expected: Reference, count: int) -> None:
    assert done.logprobs is not None
    assert tuple(one.token_id for one in done.logprobs) == done.token_ids == expected.tokens
    for ours, theirs in zip(done.logprobs, expected.logprobs, strict=True):
        assert ours.logprob == pytest.approx(theirs[ours.token_id], abs=1e-3)
        best = np.argsort(-theirs, kind="stable")[:count].tolist()
        assert [token_id for token_id, _ in ours.top] == best
        assert [logprob for _, logprob in ours.top] == pytest.approx(theirs[best].tolist(), abs=1e-3)
