"""What every language model does: the fake, and MLX over pages, over mlx_lm's own caches, and one row at a time."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from attrs import define, field

from semantic.adapters.fakes import FakeModel
from semantic.application.engine_options import EngineOptions
from semantic.application.ports.model import DecodeRow, LanguageModel, SequenceCache
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import LogitsProcessor, SamplingParams

PROMPTS = ([3, 1, 4, 1, 5], [9, 2], [6], [5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6])

LANES = {
    "paged": {"cache_layout": "paged"},
    "contiguous": {"cache_layout": "contiguous"},
    "one by one": {"exactness": "bit"},
}


def mlx_model(lane: str, model: Any) -> LanguageModel:
    from semantic.container import make_container

    factory = make_container(quiet=True).model_factory()
    options = EngineOptions(memory_bytes=1, **LANES[lane])  # type: ignore[arg-type]
    return factory.prepare(factory.adopt(model, None), options).build(num_blocks=128)


@define
class Sequences:
    """Sequences on one model, each with blocks of its own."""

    model: LanguageModel
    caches: list[SequenceCache] = field(factory=list)

    def open(self, prompt: Sequence[int], chunk: int = 100) -> SequenceCache:
        """A sequence whose prompt is prefilled but for its last token."""
        cache = self.model.memory.open()
        self.caches.append(cache)
        self.model.memory.attach(cache, _blocks_of(len(self.caches)))
        for start in range(0, len(prompt) - 1, chunk):
            self.model.prefill(cache, prompt[:-1][start : start + chunk])
        return cache

    def run(
        self, prompts: Sequence[Sequence[int]], steps: int = 5, chunk: int = 100, **sampling: Any
    ) -> list[list[int]]:
        """What each prompt draws in ``steps`` decode steps, all in one batch; row ``i`` has seed ``prompt[0]``."""
        caches = [self.open(prompt, chunk) for prompt in prompts]
        drawn: list[list[int]] = [[] for _ in prompts]
        for index in range(steps):
            rows = [
                row(cache, [*prompt, *tokens][-1], seed=prompt[0], index=index, history=[*prompt, *tokens], **sampling)
                for cache, prompt, tokens in zip(caches, prompts, drawn, strict=True)
            ]
            for tokens, token in zip(drawn, self.decode(rows), strict=True):
                tokens.append(token)
        return drawn

    def decode(self, rows: list[DecodeRow]) -> list[int]:
        """The token that each row draws: without a draft just one."""
        return [drawn.token_id for (drawn,) in self.model.decode(rows)]

    def close(self) -> None:
        """Close all caches and discard their blocks."""
        for number, cache in enumerate(self.caches, start=1):
            self.model.memory.close(cache)
            self.model.memory.discard(_blocks_of(number))
        self.caches.clear()


def _blocks_of(number: int) -> list[BlockId]:
    return [BlockId(2 * number), BlockId(2 * number + 1)]


def row(
    cache: SequenceCache,
    token_id: int,
    *,
    seed: int = 0,
    index: int = 0,
    history: Sequence[int] = (),
    draft: Sequence[int] = (),
    **sampling: Any,
) -> DecodeRow:
    return DecodeRow(cache, token_id, SamplingParams(**sampling), seed, index, tuple(history), tuple(draft))


def forbidding(*token_ids: int) -> LogitsProcessor:
    """A processor for any array library, after which these tokens are not drawn."""

    def processor(tokens: Any, logits: Any) -> Any:
        logits[:, list(token_ids)] = float("-inf")
        return logits

    return processor


@pytest.fixture(scope="module", params=["fake", *(pytest.param(lane, marks=pytest.mark.mlx) for lane in LANES)])
def model(request: pytest.FixtureRequest, tiny_llama: Callable[..., Any]) -> Iterator[LanguageModel]:
    made = FakeModel() if request.param == "fake" else mlx_model(request.param, tiny_llama())
    yield made
    made.release()


@pytest.fixture
def sequences(model: LanguageModel) -> Iterator[Sequences]:
    made = Sequences(model)
    yield made
    made.close()


def test_the_profile_has_what_the_engine_asks(model: LanguageModel) -> None:
    profile = model.profile
    assert profile.vocab_size > 0
    assert profile.prefill_step_size > 0
    assert profile.context_length is None or profile.context_length > 0
    assert profile.cache_spec.bytes_per_block > 0
    assert profile.batching in ("ragged", "padded", "one by one")
    assert profile.cache_layout == model.memory.layout


def test_rows_of_any_lengths_in_one_batch_draw_what_each_draws_alone(sequences: Sequences) -> None:
    alone = [sequences.run([prompt])[0] for prompt in PROMPTS]
    assert sequences.run(PROMPTS) == alone
    assert len({tuple(tokens) for tokens in alone}) == len(PROMPTS)


def test_the_order_of_rows_does_not_matter(sequences: Sequences) -> None:
    assert sequences.run(PROMPTS[::-1]) == sequences.run(PROMPTS)[::-1]


@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_a_prompt_in_chunks_is_the_prompt_in_one(sequences: Sequences, chunk: int) -> None:
    assert sequences.run(PROMPTS, chunk=chunk) == sequences.run(PROMPTS)


def test_a_token_that_decode_fed_counts_as_one_that_prefill_fed(sequences: Sequences) -> None:
    prompt = list(PROMPTS[3])
    (drawn,) = sequences.run([prompt], steps=4)
    assert sequences.run([prompt + drawn[:2]], steps=2) == [drawn[2:]]


def test_the_cache_counts_its_tokens(sequences: Sequences) -> None:
    cache = sequences.open([1, 2, 3, 4])
    assert cache.num_tokens == 3
    sequences.decode([row(cache, 4)])
    assert cache.num_tokens == 4


def test_a_row_may_join_and_another_may_leave_between_steps(sequences: Sequences) -> None:
    expected = sequences.run(PROMPTS[:2], steps=3)
    first = sequences.open(PROMPTS[0])
    (a,) = sequences.decode([row(first, PROMPTS[0][-1])])
    second = sequences.open(PROMPTS[1])
    b, c = sequences.decode([row(first, a), row(second, PROMPTS[1][-1])])
    sequences.model.memory.close(first)
    (d,) = sequences.decode([row(second, c)])
    assert [[a, b], [c, d]] == [expected[0][:2], expected[1][:2]]


def test_a_sampled_row_depends_on_its_seed_and_index_and_on_no_other_row(sequences: Sequences) -> None:
    alone = [sequences.run([prompt], temp=1.0)[0] for prompt in PROMPTS]
    assert sequences.run(PROMPTS, temp=1.0) == alone
    assert sequences.run(PROMPTS[::-1], temp=1.0) == alone[::-1]
    draws = set()
    for seed in range(20):
        cache = sequences.open(PROMPTS[0])
        draws.update(sequences.decode([row(cache, PROMPTS[0][-1], seed=seed, temp=1.0)]))
    assert len(draws) > 1


@pytest.mark.parametrize("temp", [0.0, 1.0])
def test_a_token_that_a_bias_or_a_processor_forbids_is_not_drawn(sequences: Sequences, temp: float) -> None:
    [[first, *_]] = sequences.run([PROMPTS[0]], temp=temp)
    assert first not in sequences.run([PROMPTS[0]], temp=temp, logit_bias={first: float("-inf")})[0]
    [[second, *_]] = sequences.run([PROMPTS[0]], temp=temp, logits_processors=forbidding(first))
    assert second != first
    both = {"logit_bias": {first: float("-inf")}, "logits_processors": [forbidding(second)]}
    assert not {first, second} & set(sequences.run([PROMPTS[0]], temp=temp, **both)[0])


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_a_penalty_on_all_that_was_seen_lets_no_token_come_twice(sequences: Sequences, penalty: str) -> None:
    size = penalty.replace("penalty", "context_size")
    [drawn] = sequences.run([PROMPTS[0]], steps=12, **{penalty: 100.0, size: 0})
    assert len({*drawn, *PROMPTS[0]}) == 12 + len(set(PROMPTS[0]))
    [drawn] = sequences.run([PROMPTS[0]], steps=12, **{penalty: -100.0, size: 3})
    assert set(drawn) <= set(PROMPTS[0][-3:])


def test_a_processor_is_called_with_all_tokens_so_far_once_for_each_draw(sequences: Sequences) -> None:
    seen: list[list[int]] = []

    def watching(tokens: Any, logits: Any) -> Any:
        seen.append(tokens.tolist())
        assert logits.shape == (1, sequences.model.profile.vocab_size)
        return logits

    [drawn] = sequences.run([PROMPTS[0]], steps=3, logits_processors=watching)
    assert seen == [[*PROMPTS[0], *drawn[:count]] for count in range(3)]
    assert [drawn] == sequences.run([PROMPTS[0]], steps=3)


def test_log_probabilities_come_where_they_are_asked_for_and_change_no_draw(sequences: Sequences) -> None:
    prompt = PROMPTS[0]
    plain, chosen, ranked = (
        sequences.model.decode([row(sequences.open(prompt), prompt[-1], logprobs=logprobs)])[0][0]
        for logprobs in (None, 0, 1_000_000)
    )
    assert plain.logprobs is None
    assert plain.token_id == chosen.token_id == ranked.token_id
    assert chosen.logprobs is not None
    assert ranked.logprobs is not None
    assert (chosen.logprobs.token_id, chosen.logprobs.top) == (plain.token_id, ())
    assert ranked.logprobs.top[0] == (plain.token_id, ranked.logprobs.logprob)
    found = [logprob for _, logprob in ranked.logprobs.top]
    assert found == sorted(found, reverse=True)
    assert len(found) == sequences.model.profile.vocab_size
    assert sum(map(math.exp, found)) == pytest.approx(1.0, abs=1e-4)


def test_log_probabilities_are_those_behind_the_processors(sequences: Sequences) -> None:
    prompt = PROMPTS[0]
    sampling: dict[str, Any] = {"logprobs": 2, "logits_processors": forbidding(*range(60))}
    [(drawn,)] = sequences.model.decode([row(sequences.open(prompt), prompt[-1], history=prompt, **sampling)])
    assert drawn.logprobs is not None
    assert min(token_id for token_id, _ in drawn.logprobs.top) >= 60
    assert len(drawn.logprobs.top) == 2


# -- drafts --------------------------------------------------------------------------------------


@pytest.fixture
def verifying(sequences: Sequences) -> Sequences:
    if sequences.model.profile.verifies_drafts == "never":
        pytest.skip("this lane verifies no drafts")
    return sequences


def drawn_with(sequences: Sequences, prompt: Sequence[int], draft: Sequence[int], **sampling: Any) -> list[int]:
    """What a prompt draws in one step with a draft; the cache must hold as many tokens more."""
    cache = sequences.open(prompt)
    (drawn,) = sequences.model.decode([row(cache, prompt[-1], seed=prompt[0], draft=draft, **sampling)])
    assert cache.num_tokens == len(prompt) - 1 + len(drawn)
    return [one.token_id for one in drawn]


@pytest.mark.parametrize(
    "sampling", [{}, {"temp": 1.0}, {"temp": 0.8, "top_k": 20}], ids=["greedy", "sampled", "top-k"]
)
def test_a_draft_is_kept_as_far_as_it_is_what_would_have_been_drawn(
    verifying: Sequences, sampling: dict[str, Any]
) -> None:
    for prompt in PROMPTS:
        (drawn,) = verifying.run([prompt], **sampling)
        wrong = drawn[2] % 50 + 1
        assert drawn_with(verifying, prompt, drawn[:4], **sampling) == drawn
        assert drawn_with(verifying, prompt, [*drawn[:2], wrong, *drawn[3:]], **sampling) == drawn[:3]
        assert drawn_with(verifying, prompt, [drawn[0] % 50 + 1, *drawn[1:]], **sampling) == drawn[:1]
        assert drawn_with(verifying, prompt, [], **sampling) == drawn[:1]


@pytest.mark.parametrize("sampling", [{}, {"temp": 1.0}], ids=["greedy", "sampled"])
def test_rows_with_and_without_drafts_share_a_step_and_go_on_as_if_nothing_had_been_drafted(
    verifying: Sequences, sampling: dict[str, Any]
) -> None:
    expected = verifying.run(PROMPTS, steps=12, **sampling)
    drawn: list[list[int]] = [[] for _ in PROMPTS]
    caches = [verifying.open(prompt) for prompt in PROMPTS]
    right = (0, 1, 3, 2)  # of each row's draft in turn; the token behind them is wrong
    for step in range(4):
        rows = []
        for number, (cache, prompt, tokens) in enumerate(zip(caches, PROMPTS, drawn, strict=True)):
            start, most = len(tokens), right[(number + step) % len(right)]
            draft = [*expected[number][start : start + most], 0] if most else []
            last = [*prompt, *tokens][-1]
            rows.append(row(cache, last, seed=prompt[0], index=start, draft=draft, **sampling))
        for tokens, draws in zip(drawn, verifying.model.decode(rows), strict=True):
            tokens += [one.token_id for one in draws]
    assert [len(tokens) for tokens in drawn] == [10, 10, 10, 10]
    assert drawn == [tokens[:10] for tokens in expected]


def test_a_draft_may_cross_from_one_block_into_the_next(verifying: Sequences) -> None:
    size = verifying.model.profile.cache_spec.block_tokens
    prompt = [number * 7 % 50 + 1 for number in range(size - 2)]
    (drawn,) = verifying.run([prompt], steps=8)
    assert drawn_with(verifying, prompt, drawn[:7]) == drawn
    cache = verifying.open(prompt)
    (first,) = verifying.model.decode([row(cache, prompt[-1], seed=prompt[0], draft=[drawn[0], 0, 0, 0, 0])])
    assert [one.token_id for one in first] == drawn[:2]
    (then,) = verifying.model.decode([row(cache, drawn[1], seed=prompt[0], index=2, draft=drawn[2:7])])
    assert [one.token_id for one in then] == drawn[2:]


def test_a_draft_that_is_trimmed_leaves_room_for_another_context(verifying: Sequences) -> None:
    cache, memory = verifying.open(PROMPTS[0]), verifying.model.memory
    memory.trim(cache, 2)
    assert cache.num_tokens == 2
    verifying.model.prefill(cache, PROMPTS[0][2:-1])
    drawn = verifying.decode([row(cache, PROMPTS[0][-1], seed=PROMPTS[0][0])])
    assert [drawn] == verifying.run([PROMPTS[0]], steps=1)


def test_a_lane_that_verifies_no_drafts_ignores_them(tiny_llama: Callable[..., Any]) -> None:
    model = FakeModel(verifies_drafts="never")
    some = Sequences(model)
    (expected,) = some.run([PROMPTS[0]], steps=2)
    assert drawn_with(some, PROMPTS[0], expected) == expected[:1]


@pytest.mark.mlx
def test_the_bit_lane_verifies_no_drafts(tiny_llama: Callable[..., Any]) -> None:
    model = mlx_model("one by one", tiny_llama())
    some = Sequences(model)
    (expected,) = some.run([PROMPTS[0]], steps=2)
    assert model.profile.verifies_drafts == "never"
    assert drawn_with(some, PROMPTS[0], expected) == expected[:1]
    model.release()


def test_when_all_caches_are_closed_and_their_blocks_discarded_no_bytes_are_held(model: LanguageModel) -> None:
    some = Sequences(model)
    some.run(PROMPTS)
    assert model.memory.nbytes > 0
    some.close()
    assert model.memory.nbytes == 0


@pytest.mark.parametrize("lane", ["fake", *(pytest.param(lane, marks=pytest.mark.mlx) for lane in LANES)])
def test_releasing_twice_is_a_no_op(lane: str, tiny_llama: Callable[..., Any]) -> None:
    model = FakeModel() if lane == "fake" else mlx_model(lane, tiny_llama())
    Sequences(model).run(PROMPTS)
    model.release()
    model.release()
    assert model.memory.nbytes == 0
