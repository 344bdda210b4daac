"""Speculation on the default model: mlx_lm's text in fewer steps, alone, batched, stopped, on a cached prefix."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx_lm
import pytest

import semantic
from semantic.experiments import fixtures

pytestmark = pytest.mark.model

EXPERIMENTS = Path(__file__).parents[2] / "experiments" / "scripts"
NEW_TOKENS = 24
COPIES = [prompt for _, prompt in fixtures(str(EXPERIMENTS / "any"), "exp_015").COPY_PROMPTS][:3]
OTHERS = [prompt for name, prompt, _ in fixtures(str(EXPERIMENTS / "any"), "exp_001").PROMPTS if name == "json"]
PROMPTS = [*COPIES, *OTHERS]


@pytest.fixture(scope="module")
def pair() -> Any:
    return semantic.load("smollm2-135m")


@pytest.fixture(scope="module")
def expected(pair: Any) -> list[str]:
    """What mlx_lm says before any engine was opened."""
    return [mlx_lm.generate(*pair, prompt=prompt, max_tokens=NEW_TOKENS) for prompt in PROMPTS]


@pytest.fixture(scope="module", params=["paged", "contiguous"])
def engine(request: pytest.FixtureRequest, pair: Any, expected: list[str]) -> Iterator[semantic.Engine]:
    with semantic.open(pair, memory="500MB", cache_layout=request.param) as opened:
        yield opened


def test_text_is_mlx_lms_alone_and_on_a_cached_prefix_and_copies_take_fewer_steps(
    engine: semantic.Engine, expected: list[str]
) -> None:
    assert [engine.generate(prompt, max_tokens=NEW_TOKENS).text for prompt in PROMPTS] == expected
    again = [engine.generate(prompt, max_tokens=NEW_TOKENS) for prompt in PROMPTS]
    assert [completion.text for completion in again] == expected
    assert all(done.usage.cached_tokens > done.usage.prompt_tokens // 2 for done in again[: len(COPIES)])
    assert engine.stats().accepted_tokens > len(COPIES) * NEW_TOKENS


def test_text_is_mlx_lms_in_a_batch(engine: semantic.Engine, expected: list[str]) -> None:
    batch = engine.batch_generate(PROMPTS, max_tokens=NEW_TOKENS)
    assert [completion.text for completion in batch] == expected


def test_a_stop_string_that_a_draft_runs_over_ends_the_text(engine: semantic.Engine, expected: list[str]) -> None:
    letter = expected[2]
    stop = letter.split()[8]
    done = engine.generate(COPIES[2], max_tokens=NEW_TOKENS, stop=[stop])
    assert (done.text, done.finish_reason) == (letter[: letter.index(stop)], "stop")


def test_sampled_text_is_that_without_speculation(engine: semantic.Engine, pair: Any) -> None:
    sampling = {"max_tokens": NEW_TOKENS, "temp": 0.6, "seed": 7}
    drafted = [engine.generate(prompt, **sampling).token_ids for prompt in COPIES[:2]]
    layout = engine.profile.cache_layout
    with semantic.open(pair, memory="500MB", cache_layout=layout, prompt_lookup_num_tokens=0) as plain:
        assert [plain.generate(prompt, **sampling).token_ids for prompt in COPIES[:2]] == drafted
