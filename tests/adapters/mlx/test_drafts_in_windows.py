"""A window takes drafts as long as they can be cut off again, and recurrent state never does."""

from typing import Any

import pytest

from semantic.application.engine_options import EngineOptions
from semantic.application.ports.model import DecodeRow, LanguageModel
from semantic.container import make_container
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import SamplingParams

pytestmark = pytest.mark.mlx

PROMPT = [5, 3, 8, 1]
STEPS = 40


def tiny(name: str) -> LanguageModel:
    from tiny_models import ARCHITECTURES, build

    factory = make_container(quiet=True).model_factory()
    prepared = factory.prepare(factory.adopt(build(ARCHITECTURES[name]), None), EngineOptions(memory_bytes=1))
    return prepared.build(num_blocks=8)


def drawn(model: LanguageModel, right: list[int] | None = None) -> tuple[list[int], list[int]]:
    """What the prompt draws, and how many tokens each step drew; ``right`` is drafted four tokens at a time."""
    cache = model.memory.open()
    model.memory.attach(cache, [BlockId(0)])
    model.prefill(cache, PROMPT[:-1])
    tokens, counts = list[int](), list[int]()
    while len(tokens) < STEPS:
        draft = tuple((right or [])[len(tokens) : len(tokens) + 4])
        row = DecodeRow(cache, [*PROMPT, *tokens][-1], SamplingParams(), 0, len(tokens), draft=draft)
        [draws] = model.decode([row])
        tokens += [one.token_id for one in draws]
        counts.append(len(draws))
    model.memory.close(cache)
    return tokens[:STEPS], counts


def test_a_window_takes_drafts_until_they_would_pass_its_size_and_says_the_same() -> None:
    model = tiny("sliding llama")
    assert model.profile.verifies_drafts == "apart"
    expected, _ = drawn(model)
    actual, counts = drawn(model, expected)
    assert actual == expected
    assert counts == [5, 5, *[1] * 30], "behind 13 tokens, five more would pass the window of 16"
    model.release()


def test_recurrent_state_and_quantised_caches_take_none(tiny_llama: Any) -> None:
    recurrent = tiny("lfm2")
    assert recurrent.profile.verifies_drafts == "never"
    recurrent.release()
    factory = make_container(quiet=True).model_factory()
    options = EngineOptions(memory_bytes=1, kv_bits=8, kv_group_size=32)
    quantised = factory.prepare(factory.adopt(tiny_llama(head_dim=32), None), options)
    assert quantised.profile.verifies_drafts == "never"
