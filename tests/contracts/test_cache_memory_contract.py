"""What every cache memory does: the fake's, pages, and mlx_lm's own caches. Blocks are told apart by their ids."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from semantic.adapters.fakes import FakeModel
from semantic.application.engine_options import EngineOptions
from semantic.application.ports.model import CacheMemory, DecodeRow, LanguageModel, SequenceCache
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import SamplingParams

A, B, C, D = (BlockId(number) for number in range(4))


@pytest.fixture(
    params=[
        "fake",
        pytest.param("paged", marks=pytest.mark.mlx),
        pytest.param("contiguous", marks=pytest.mark.mlx),
    ]
)
def model(request: pytest.FixtureRequest, tiny_llama: Callable[..., Any]) -> Iterator[LanguageModel]:
    """A model over the memory. Blocks hold 16 tokens in the fake and 256 in the others."""
    made: LanguageModel = FakeModel()
    if request.param != "fake":
        from semantic.container import make_container

        factory = make_container(quiet=True).model_factory()
        options = EngineOptions(memory_bytes=1, cache_layout=request.param)
        made = factory.prepare(factory.adopt(tiny_llama(), None), options).build(num_blocks=4)
    yield made
    made.release()


@pytest.fixture
def memory(model: LanguageModel) -> CacheMemory:
    return model.memory


def filled(model: LanguageModel, block_ids: Sequence[BlockId], token_ids: Sequence[int]) -> SequenceCache:
    cache = model.memory.open()
    model.memory.attach(cache, block_ids)
    model.prefill(cache, token_ids)
    return cache


def next_token(model: LanguageModel, cache: SequenceCache) -> int:
    return model.decode([DecodeRow(cache, 1, SamplingParams(), seed=0, index=0)])[0]


def test_a_new_memory_holds_nothing(memory: CacheMemory) -> None:
    assert memory.nbytes == 0


def test_a_new_cache_is_empty(memory: CacheMemory) -> None:
    cache = memory.open()
    assert (cache.num_tokens, cache.nbytes) == (0, 0)


def test_a_cache_that_waits_without_blocks_costs_nothing(memory: CacheMemory) -> None:
    memory.open()
    assert memory.nbytes == 0


def test_what_a_cache_holds_is_counted(model: LanguageModel) -> None:
    cache = filled(model, [A], [1, 2, 3])
    assert cache.num_tokens == 3
    assert cache.nbytes > 0
    assert model.memory.nbytes >= cache.nbytes


def test_two_caches_do_not_see_each_other(model: LanguageModel) -> None:
    alone = next_token(model, filled(model, [A], [1, 2, 3]))
    first, second = filled(model, [B], [1, 2, 3]), filled(model, [C], [4, 5, 6])
    next_token(model, second)
    assert next_token(model, first) == alone


def test_closing_twice_is_a_no_op(model: LanguageModel) -> None:
    cache = filled(model, [A], [1, 2, 3])
    model.memory.close(cache)
    model.memory.close(cache)
    assert cache.num_tokens == 0


def test_discarded_blocks_are_gone_and_unknown_ones_are_ignored(model: LanguageModel) -> None:
    memory = model.memory
    memory.close(filled(model, [A, B], [1, 2, 3]))
    memory.discard([A, B, C])
    memory.discard([A])
    assert memory.nbytes == 0


def test_a_discarded_block_that_is_attached_again_brings_nothing_of_its_old_contents(model: LanguageModel) -> None:
    expected = next_token(model, filled(model, [B], [7, 7, 7]))
    memory = model.memory
    memory.close(filled(model, [A], [1, 2, 3, 4, 5, 6]))
    memory.discard([A])
    assert next_token(model, filled(model, [A], [7, 7, 7])) == expected


def test_blocks_may_be_attached_in_any_order_of_ids_and_later(model: LanguageModel) -> None:
    tokens = [number % 100 for number in range(model.profile.cache_spec.block_tokens + 5)]
    expected = next_token(model, filled(model, [A, B], tokens))
    model.memory.discard([A, B])
    late = model.memory.open()
    model.memory.attach(late, [D])
    model.prefill(late, tokens[:5])
    model.memory.attach(late, [C])
    model.prefill(late, tokens[5:])
    assert late.num_tokens == len(tokens)
    assert next_token(model, late) == expected
