"""Adapters keep blocks and agents apart, on one and the same model."""

import attrs
import pytest
from talking import Desk

from semantic.adapters.fakes import FakeModel
from semantic.application.make_cache import cache_context
from semantic.domain.errors import AgentOfOtherModelError


def under(*adapters: str) -> FakeModel:
    model = FakeModel()
    model.profile = attrs.evolve(model.profile, adapters=adapters)
    return model


def test_a_context_of_blocks_counts_adapters_in_their_order() -> None:
    contexts = [cache_context(under(*adapters).profile) for adapters in ((), ("a",), ("b",), ("a", "b"), ("b", "a"))]
    assert len({context.digest for context in contexts}) == 5
    assert len({context.model for context in contexts}) == 1


def test_a_model_without_adapters_is_identified_by_its_fingerprint_alone() -> None:
    assert under().profile.identity == under().profile.fingerprint
    assert under("a", "b").profile.identity == f"{under().profile.fingerprint}+a+b"


def test_nothing_computed_under_one_adapter_is_taken_up_under_another_or_none() -> None:
    desk = Desk()
    for adapters in ((), ("a",), ("b",)):
        for is_cached in (False, True):
            with desk.open(model=under(*adapters)) as engine:
                assert (engine.generate("x" * 50, max_tokens=2).usage.cached_tokens > 0) == is_cached


def test_an_agent_of_another_adapter_is_refused_with_both_identities_named() -> None:
    desk = Desk()
    with desk.open(model=under("a")) as engine:
        engine.agent("alice").chat("Hi", max_tokens=2)
    for adapters in ((), ("b",)):
        with desk.open(model=under(*adapters)) as engine, pytest.raises(AgentOfOtherModelError) as caught:
            engine.agent("alice")
        assert caught.value.theirs == f"fake ({under('a').profile.identity})"
        assert caught.value.ours == f"fake ({under(*adapters).profile.identity})"
    with desk.open(model=under("a")) as engine:
        assert len(engine.agent("alice").history) == 2
