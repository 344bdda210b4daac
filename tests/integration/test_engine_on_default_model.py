"""The engine on the default model: the text is mlx_lm's, in both lanes and both layouts, batched, stopped, streamed."""

from collections.abc import Iterator
from typing import Any

import mlx_lm
import pytest

import semantic
from semantic.domain.errors import SemanticError

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
NEW_TOKENS = 16
PROMPTS = ["The quick brown fox", "def fibonacci(n):\n    ", "日本の首都は", "1. apples\n2."]
LANES: dict[str, dict[str, Any]] = {
    "pages": {"cache_layout": "paged"},
    "contiguous": {"cache_layout": "contiguous"},
    "bit": {"exactness": "bit"},
}


@pytest.fixture(scope="module")
def pair() -> Any:
    return semantic.load(MODEL)


@pytest.fixture(scope="module")
def expected(pair: Any) -> list[str]:
    """What mlx_lm says before any engine was opened."""
    return [mlx_lm.generate(*pair, prompt=prompt, max_tokens=NEW_TOKENS) for prompt in PROMPTS]


@pytest.fixture(scope="module")
def engine(pair: Any, expected: list[str]) -> Iterator[semantic.Engine]:
    with semantic.open(pair, memory="500MB") as opened:
        yield opened


@pytest.mark.parametrize("lane", LANES)
def test_each_prompts_text_is_mlx_lms_alone_and_in_a_batch(lane: str, pair: Any, expected: list[str]) -> None:
    with semantic.open(pair, memory="500MB", **LANES[lane]) as engine:
        assert [engine.generate(prompt, max_tokens=NEW_TOKENS).text for prompt in PROMPTS] == expected
        batch = engine.batch_generate(PROMPTS, max_tokens=NEW_TOKENS)
    assert [completion.text for completion in batch] == expected


def test_mlx_lm_on_the_same_model_says_the_same_while_the_engine_is_open(
    engine: semantic.Engine, pair: Any, expected: list[str]
) -> None:
    assert mlx_lm.generate(*pair, prompt=PROMPTS[0], max_tokens=NEW_TOKENS) == expected[0]


def test_a_prompt_of_several_chunks_is_continued_as_mlx_lm_continues_it(engine: semantic.Engine, pair: Any) -> None:
    prompt = "The engine counts: " + " ".join(str(number) for number in range(170))
    assert len(engine.encode(prompt)) > 2 * engine.profile.prefill_step_size
    expected = mlx_lm.generate(*pair, prompt=prompt, max_tokens=8)
    assert engine.generate(prompt, max_tokens=8).text == expected


def test_chat_messages_go_through_the_template(engine: semantic.Engine, pair: Any) -> None:
    model, tokenizer = pair
    messages = [{"role": "user", "content": "Say hello."}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    completion = engine.generate(messages, max_tokens=24)
    assert completion.usage.prompt_tokens == len(ids)
    assert completion.text == mlx_lm.generate(model, tokenizer, prompt=ids, max_tokens=24)
    assert not set(completion.token_ids) & set(tokenizer.eos_token_ids)


def test_a_stop_string_ends_the_text_and_is_not_in_it(engine: semantic.Engine, expected: list[str]) -> None:
    stop = expected[0][10:17]
    completion = engine.generate(PROMPTS[0], max_tokens=NEW_TOKENS, stop=stop)
    assert completion.text == expected[0][: expected[0].index(stop)]
    assert completion.finish_reason == "stop"
    assert completion.usage.completion_tokens < NEW_TOKENS


def test_streamed_text_of_many_bytes_joined_is_the_completions(engine: semantic.Engine, expected: list[str]) -> None:
    deltas = list(engine.stream(PROMPTS[2], max_tokens=NEW_TOKENS))
    last = deltas[-1].completion
    assert last is not None
    assert "".join(delta.text for delta in deltas) == last.text == expected[2]
    assert not last.text.isascii()
    assert all("�" not in delta.text for delta in deltas[:-1])


def test_a_sampled_text_depends_on_its_seed_and_not_on_batch_mates(engine: semantic.Engine) -> None:
    sampling = {"temp": 0.8, "top_p": 0.95, "max_tokens": 10}
    alone = engine.generate(PROMPTS[0], seed=1, **sampling).text
    mates = [engine.submit(prompt, seed=2, **sampling) for prompt in PROMPTS]
    assert engine.generate(PROMPTS[0], seed=1, **sampling).text == alone
    assert mates[0].result().text != alone


@pytest.mark.parametrize(
    ("prompt", "sampling"),
    [
        ("", {}),
        ([49152], {}),
        ([-1], {}),
        ([1] * 10_000, {}),
        ("a", {"max_tokens": 0}),
        ("a", {"temp": 1.0, "top_k": 49152}),
        ("a", {"stop": ""}),
        ("a", {"temperature": 1.0}),
        ([{"content": "no role"}], {}),
        ("lone surrogate \ud800", {}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_refused_has_a_name_and_the_engine_goes_on_serving(
    engine: semantic.Engine, expected: list[str], prompt: Any, sampling: dict[str, Any]
) -> None:
    with pytest.raises(SemanticError):
        engine.generate(prompt, **sampling)
    assert expected[0].startswith(engine.generate(PROMPTS[0], max_tokens=2).text)


def test_afterwards_nobody_holds_a_block_and_what_is_kept_is_in_the_books(engine: semantic.Engine) -> None:
    engine.flush()
    stats = engine.stats()
    assert (stats.pool_blocks_in_use, stats.pool_free_blocks) == (0, stats.pool_total_blocks)
    assert stats.cache_bytes == stats.pool_cached_blocks * engine.profile.cache_spec.bytes_per_block
