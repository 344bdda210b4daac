"""What every cache memory does: the fake's, pages, and mlx_lm's own caches. Blocks are told apart by their ids."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from attrs import define, field

from semantic.adapters.fakes import FakeModel
from semantic.application.engine_options import EngineOptions
from semantic.application.ports.block_store import Tensor, TensorHeader, fill
from semantic.application.ports.model import CacheMemory, DecodeRow, LanguageModel, SequenceCache
from semantic.domain.errors import BlockDamagedError
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import Reuse, SamplingParams

A, B, C, D, E, F = (BlockId(number) for number in range(6))
NUM_BLOCKS = 6
CLOSE = 1e-4
"""Where pages lie, and how many tokens a forward took, moves the last bits of logits (the token lane, ADR 0004)."""

FAKES: dict[str, Callable[[], LanguageModel]] = {
    "fake": FakeModel,
    "fake contiguous": lambda: FakeModel(layout="contiguous", reuse=Reuse.AT_STATES),
}
QUANTISED = "quantised in compute"
OPTIONS: dict[str, dict[str, Any]] = {
    "paged": {"cache_layout": "paged"},
    "contiguous": {"cache_layout": "contiguous"},
    QUANTISED: {"kv_bits": 8, "kv_group_size": 32},
    "sliding llama": {},
    "lfm2": {},
}


@pytest.fixture(
    params=[
        *FAKES,
        *(pytest.param(name, marks=pytest.mark.mlx) for name in OPTIONS),
    ]
)
def model(request: pytest.FixtureRequest, tiny_llama: Callable[..., Any]) -> Iterator[LanguageModel]:
    """A model over the memory: plain attention, quantised too, a sliding window, and state beside attention.

    Blocks hold 16 tokens in the fakes and 256 in the others.
    """
    if request.param in FAKES:
        made = FAKES[request.param]()
    else:
        from semantic.container import make_container

        factory = make_container(quiet=True).model_factory()
        options = EngineOptions(memory_bytes=1, **OPTIONS[request.param])
        made = factory.prepare(factory.adopt(tiny(request.param, tiny_llama), None), options).build(NUM_BLOCKS)
    yield made
    made.release()


def tiny(name: str, tiny_llama: Callable[..., Any]) -> Any:
    if name == QUANTISED:
        return tiny_llama(head_dim=32)
    if name in ("paged", "contiguous"):
        return tiny_llama()
    from tiny_models import ARCHITECTURES, build

    return build(ARCHITECTURES[name])


@pytest.fixture
def memory(model: LanguageModel) -> CacheMemory:
    return model.memory


def filled(model: LanguageModel, block_ids: Sequence[BlockId], token_ids: Sequence[int]) -> SequenceCache:
    cache = model.memory.open()
    model.memory.attach(cache, block_ids)
    model.prefill(cache, token_ids)
    return cache


def next_token(model: LanguageModel, cache: SequenceCache) -> int:
    return model.decode([DecodeRow(cache, 1, SamplingParams(), seed=0, index=0)])[0][0].token_id


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


# -- leaving contexts behind and taking them up again ------------------------------------------------


@define
class Seen:
    """The logits that every decode step chose from, where the model has any."""

    logits: list[Any] = field(factory=list)

    def take(self) -> list[Any]:
        taken, self.logits = self.logits, []
        return taken


@pytest.fixture
def seen(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Seen:
    made = Seen()
    if isinstance(model, FakeModel):
        return made
    import mlx.core as mx
    import numpy as np

    from semantic.adapters.mlx.sampler import Sampler

    choose = Sampler.choose

    def noting(self: Sampler, logits: Any, rows: Any) -> list[int]:
        made.logits.append(np.array(logits.astype(mx.float32)))
        return choose(self, logits, rows)

    monkeypatch.setattr(Sampler, "choose", noting)
    return made


def is_cut_anywhere(model: LanguageModel) -> bool:
    return model.profile.reuse is Reuse.ANYWHERE


def size_of(model: LanguageModel) -> int:
    return model.profile.cache_spec.block_tokens


def tokens_of(model: LanguageModel, blocks_and_more: tuple[int, int]) -> list[int]:
    blocks, more = blocks_and_more
    return [(number * 31 + number // 7) % 100 + 1 for number in range(blocks * size_of(model) + more)]


def goes_on(model: LanguageModel, cache: SequenceCache, seen: Seen) -> tuple[list[int], list[Any]]:
    """The next tokens, and the logits that they were chosen from."""
    seen.take()
    tokens = [7]
    for index in range(5):
        ((drawn,),) = model.decode([DecodeRow(cache, tokens[-1], SamplingParams(), seed=0, index=index)])
        tokens.append(drawn.token_id)
    return tokens, seen.take()


def assert_same(ours: tuple[list[int], list[Any]], expected: tuple[list[int], list[Any]]) -> None:
    assert ours[0] == expected[0]
    assert len(ours[1]) == len(expected[1])
    assert all(abs(here - there).max() <= CLOSE for here, there in zip(ours[1], expected[1], strict=True))


def seal_all(model: LanguageModel, cache: SequenceCache, own: Sequence[BlockId], others: Sequence[BlockId]) -> Any:
    """Seal all that a cache holds into blocks, whole ones and a tail; returns (block, its tokens) of each."""
    size, sealed = size_of(model), []
    places = own if model.memory.seals_in_place else others
    for index, block_id in enumerate(places):
        num_tokens = min(size, cache.num_tokens - index * size)
        if num_tokens > 0:
            ends_the_cache = index * size + num_tokens == cache.num_tokens
            expected = model.memory.sealed_bytes(index * size, num_tokens, with_state=ends_the_cache)
            before = model.memory.nbytes
            model.memory.seal(cache, block_id, index * size, num_tokens)
            taken = 0 if model.memory.seals_in_place else model.memory.nbytes - before
            assert taken <= expected * 1.02 + 500  # what the pool is told; a state's description takes a few bytes
            sealed.append((block_id, num_tokens))
    return sealed


def left_behind(model: LanguageModel, tokens: list[int]) -> list[tuple[BlockId, int]]:
    """Blocks that hold a context whose cache is closed."""
    cache = filled(model, [A, B], tokens)
    sealed = seal_all(model, cache, [A, B], [C, D])
    model.memory.close(cache)
    return sealed


def resumed(model: LanguageModel, sealed: Sequence[tuple[BlockId, int]], num_tokens: int, room: BlockId) -> Any:
    cache = model.memory.open()
    model.memory.resume(cache, [block_id for block_id, _ in sealed], num_tokens)
    model.memory.attach(cache, [room] if model.memory.seals_in_place else [A, B, room])
    return cache


@pytest.mark.parametrize("length", [(0, 5), (1, 0), (1, 5)])
def test_a_resumed_cache_goes_on_as_the_one_that_was_never_interrupted(
    model: LanguageModel, seen: Seen, length: tuple[int, int]
) -> None:
    tokens = tokens_of(model, length)
    expected = goes_on(model, filled(model, [E, F], tokens), seen)
    sealed = left_behind(model, tokens)
    model.memory.discard([E, F])
    cache = resumed(model, sealed, len(tokens), E)
    assert cache.num_tokens == len(tokens)
    assert_same(goes_on(model, cache, seen), expected)


def test_what_was_sealed_does_not_change_when_its_cache_goes_on(model: LanguageModel, seen: Seen) -> None:
    tokens = tokens_of(model, (0, 9))
    cache = filled(model, [A], tokens)
    sealed = seal_all(model, cache, [A], [C])
    before = [copied(model.memory.contents(block_id, count)) for block_id, count in sealed]
    expected = goes_on(model, cache, seen)
    assert [copied(model.memory.contents(block_id, count)) for block_id, count in sealed] == before
    model.memory.close(cache)
    if not model.memory.seals_in_place:
        assert_same(goes_on(model, resumed(model, sealed, 9, B), seen), expected)


def test_a_block_is_discarded_without_harm_to_a_cache_that_was_resumed_from_a_copy(
    model: LanguageModel, seen: Seen
) -> None:
    if model.memory.seals_in_place:
        pytest.skip("the block is the cache's own memory")
    tokens = tokens_of(model, (0, 9))
    expected = goes_on(model, filled(model, [E], tokens), seen)
    sealed = left_behind(model, tokens)
    cache = resumed(model, sealed, 9, F)
    model.memory.discard([block_id for block_id, _ in sealed])
    assert_same(goes_on(model, cache, seen), expected)


def test_only_the_first_tokens_of_a_block_may_be_taken_up_where_every_layer_can_be_cut(
    model: LanguageModel, seen: Seen
) -> None:
    if not is_cut_anywhere(model):
        pytest.skip("this context can be taken up at its end only")
    tokens = tokens_of(model, (0, 9))
    expected = goes_on(model, filled(model, [E], tokens[:6]), seen)
    sealed = left_behind(model, tokens)
    if model.memory.seals_in_place:
        model.memory.copy(sealed[0][0], C, 6)
        sealed = [(C, 6)]
    assert_same(goes_on(model, resumed(model, sealed, 6, D), seen), expected)


def test_a_copy_leaves_the_block_it_was_made_from_alone(model: LanguageModel, seen: Seen) -> None:
    if not model.memory.seals_in_place:
        pytest.skip("sealed blocks are not written on, so they are not copied")
    tokens = tokens_of(model, (0, 9))
    expected = goes_on(model, filled(model, [E], tokens), seen)
    [(block_id, _)] = left_behind(model, tokens)
    model.memory.copy(block_id, C, 6)
    cache = resumed(model, [(C, 6)], 6, D)
    model.prefill(cache, [99, 98, 97, 96])
    assert_same(goes_on(model, resumed(model, [(block_id, 9)], 9, F), seen), expected)


# -- to the store and back ---------------------------------------------------------------------------


def copied(tensors: Sequence[Tensor]) -> list[tuple[TensorHeader, bytes]]:
    return [(tensor.header, b"".join(tensor.pieces)) for tensor in tensors]


def received(model: LanguageModel, block_id: BlockId, count: int, kept: list[tuple[TensorHeader, bytes]]) -> None:
    place = model.memory.receive(block_id, count)
    fill(place([header for header, _ in kept]), b"".join(content for _, content in kept))


@pytest.mark.parametrize("length", [(0, 5), (1, 0), (1, 5)])
def test_a_context_that_went_through_bytes_goes_on_as_the_one_that_was_never_interrupted(
    model: LanguageModel, seen: Seen, length: tuple[int, int]
) -> None:
    memory, tokens = model.memory, tokens_of(model, length)
    expected = goes_on(model, filled(model, [E, F], tokens), seen)
    sealed = left_behind(model, tokens)
    kept = [copied(memory.contents(block_id, count)) for block_id, count in sealed]
    memory.discard([A, B, C, D, E, F])
    back = list(zip([C, D], (count for _, count in sealed), strict=False))
    for (block_id, count), content in zip(back, kept, strict=True):
        received(model, block_id, count, content)
    assert_same(goes_on(model, resumed(model, back, len(tokens), E), seen), expected)
    assert [copied(memory.contents(block_id, count)) for block_id, count in back] == kept


def test_arrays_of_another_kind_are_refused_as_damage(model: LanguageModel) -> None:
    sealed = left_behind(model, tokens_of(model, (0, 9)))
    headers = [tensor.header for tensor in model.memory.contents(*sealed[0])]
    for wrong in (
        [],
        [TensorHeader("other", header.dtype, header.shape) for header in headers],
        [TensorHeader(header.name, header.dtype, (*header.shape, 1)) for header in headers],
        [TensorHeader(header.name, "F8", header.shape) for header in headers],
    ):
        with pytest.raises(BlockDamagedError):
            model.memory.receive(E, 9)(wrong)
        model.memory.discard([E])


def test_blocks_that_were_sealed_or_received_are_counted_until_they_are_discarded(model: LanguageModel) -> None:
    memory = model.memory
    sealed = left_behind(model, tokens_of(model, (0, 9)))
    kept = copied(memory.contents(*sealed[0]))
    before = memory.nbytes
    assert before > 0
    received(model, E, 9, kept)
    assert memory.nbytes > before
    memory.discard([A, B, C, D, E])
    assert memory.nbytes == 0
