"""Processors, penalties and log-probabilities on the default model are mlx_lm's, alone, batched and restarted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_logits_processors, make_sampler

import semantic

pytestmark = pytest.mark.model

PROMPT = "Write a list of fruits: apples, apples, apples,"
NEW_TOKENS = 12
PENALTIES: dict[str, Any] = {
    "repetition_penalty": 1.3,
    "repetition_context_size": 40,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.2,
    "logit_bias": {28: -2.0},
}


@pytest.fixture(scope="module")
def pair() -> Any:
    return semantic.load("smollm2-135m")


@pytest.fixture(scope="module")
def engine(pair: Any) -> Iterator[semantic.Engine]:
    with semantic.open(pair, memory="500MB") as opened:
        yield opened


def encoded(pair: Any) -> list[int]:
    return pair[1].encode(PROMPT)  # type: ignore[no-any-return]


def test_penalties_and_biases_draw_mlx_lms_tokens_greedy_and_sampled_beside_rows_without_any(
    pair: Any, tmp_path: Path
) -> None:
    greedy, plain = (
        mlx_lm.generate(*pair, prompt=PROMPT, max_tokens=NEW_TOKENS, logits_processors=processors)
        for processors in (make_logits_processors(**PENALTIES), [])
    )
    mx.random.seed(3)
    steps = generate_step(
        mx.array(encoded(pair)),
        pair[0],
        max_tokens=NEW_TOKENS,
        sampler=make_sampler(temp=0.8, top_p=0.95),
        logits_processors=make_logits_processors(**PENALTIES),
    )
    sampled = tuple(token for token, _ in steps)
    assert greedy != plain
    for _ in range(2):
        with semantic.open(pair, memory="500MB", store=tmp_path / "kv") as engine:
            requests = [
                engine.submit(PROMPT, max_tokens=NEW_TOKENS, **given)
                for given in (PENALTIES, {}, {**PENALTIES, "temp": 0.8, "top_p": 0.95, "seed": 3})
            ]
            first, second, third = (request.result() for request in requests)
        assert (first.text, second.text) == (greedy, plain)
        assert third.token_ids == sampled[: len(third.token_ids)]


def test_log_probabilities_are_those_that_mlx_lm_yields(pair: Any, engine: semantic.Engine) -> None:
    steps = generate_step(
        mx.array(encoded(pair)),
        pair[0],
        max_tokens=8,
        logits_processors=make_logits_processors(**PENALTIES),
    )
    expected = [(token, logprobs[token].item(), mx.sort(logprobs)[-3:].tolist()[::-1]) for token, logprobs in steps]
    done = engine.generate(PROMPT, max_tokens=8, logprobs=3, **PENALTIES)
    assert done.logprobs is not None
    for ours, (token, logprob, best) in zip(done.logprobs, expected, strict=True):
        assert ours.token_id == token
        assert ours.logprob == pytest.approx(logprob, abs=1e-3)
        assert [one for _, one in ours.top] == pytest.approx(best, abs=1e-3)


def test_tools_and_arguments_of_a_template_are_rendered_as_mlx_lm_renders_them(
    pair: Any, engine: semantic.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (
        "{% if tools %}{{ tools | tojson }}{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if enable_thinking is defined and not enable_thinking %}no thoughts{% endif %}<|im_start|>assistant\n"
    )
    monkeypatch.setattr(pair[1]._tokenizer, "chat_template", template)
    messages = [{"role": "user", "content": "What is the time?"}]
    given: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "clock"}}]}
    expected = pair[1].apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False, **given)
    assert engine.encode(messages, chat_template_kwargs={"enable_thinking": False}, **given) == expected
    assert '"clock"' in pair[1].decode(expected)
