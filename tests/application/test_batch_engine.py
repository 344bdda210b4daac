"""The batch engine on fakes, stepped by hand."""

from typing import Any

import pytest
from attrs import define
from driving import Driven, driven
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.adapters.fakes import (
    FakeClock,
    FakeModel,
    FakeTokenizer,
    RecordingTelemetry,
    fake_batch_engine,
    fake_next_token,
)
from semantic.adapters.fakes.tokenizer import END
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.domain.errors import (
    EmptyPromptError,
    InvalidRequestError,
    PromptTooLongError,
    RequestTooLargeError,
    TokenizerRequiredError,
    TokenOutOfVocabularyError,
    UnknownRequestError,
)
from semantic.domain.identifiers import RequestId
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import FinishReason, SamplingParams


def says(text: str) -> FakeModel:
    """A model that answers any one-byte prompt with ``text`` and then ends."""
    tokens = [*FakeTokenizer().encode(text), END]
    return FakeModel(choose=lambda token_ids: tokens[len(token_ids) - 1])


def no_tokenizer(engine: BlockPoolBatchEngine) -> BlockPoolBatchEngine:
    return BlockPoolBatchEngine(
        model=engine.model,
        tokenizer=None,
        pool=BlockPool(64),
        clock=FakeClock(),
        telemetry=RecordingTelemetry(),
        random_seed=lambda: 0,
    )


# -- one request -------------------------------------------------------------------------------------


def test_a_completion_is_what_the_models_rule_says_one_token_after_the_other() -> None:
    prompt = FakeTokenizer().encode("abc")
    first = fake_next_token(prompt)
    second = fake_next_token([*prompt, first])
    completion = driven().generate("abc", max_tokens=2)
    assert completion.token_ids == (first, second)
    assert completion.text == FakeTokenizer().decode([first, second])
    assert completion.finish_reason is FinishReason.LENGTH
    assert (completion.usage.prompt_tokens, completion.usage.cached_tokens, completion.usage.completion_tokens) == (
        3,
        0,
        2,
    )


def test_prefill_takes_all_but_the_last_prompt_token_in_chunks_and_decode_the_rest() -> None:
    model = FakeModel(prefill_step_size=16)
    driven(model).generate([1] * 40, max_tokens=3)
    assert model.forwards == ["prefill 16", "prefill 16", "prefill 7", "decode 1", "decode 1", "decode 1"]


def test_a_prompt_of_one_token_needs_no_prefill() -> None:
    model = FakeModel()
    driven(model).generate("a", max_tokens=1)
    assert model.forwards == ["decode 1"]


def test_the_end_of_sequence_token_ends_the_text_and_is_not_among_the_ids() -> None:
    completion = driven(says("hi")).generate("?", max_tokens=10)
    assert completion.text == "hi"
    assert completion.token_ids == (105, 106)
    assert completion.finish_reason is FinishReason.STOP


def test_a_model_that_ends_at_once_gives_an_empty_completion() -> None:
    completion = driven(says("")).generate("?", max_tokens=10)
    assert (completion.text, completion.token_ids, completion.finish_reason) == ("", (), FinishReason.STOP)
    assert completion.usage.completion_tokens == 0


def test_a_stop_token_of_the_request_ends_it_and_is_not_among_the_ids() -> None:
    completion = driven(says("hello")).generate("?", stop_token_ids=[109], max_tokens=10)  # "l"
    assert (completion.text, completion.token_ids, completion.finish_reason) == ("he", (105, 102), FinishReason.STOP)


def test_a_stop_string_over_several_tokens_ends_it_and_its_text_is_not_returned() -> None:
    some = driven(says("one two three"))
    request_id = some.submit("?", stop="two", max_tokens=20)
    some.run()
    assert some.completion(request_id).text == "one "
    assert some.completion(request_id).finish_reason is FinishReason.STOP
    assert "".join(delta.text for delta in some.deltas[request_id]) == "one "


def test_the_text_of_all_deltas_is_the_completions_and_so_are_the_token_ids() -> None:
    some = driven(says("日本 and é"))
    request_id = some.submit("?", stop=["never"], max_tokens=50)
    some.run()
    deltas = some.deltas[request_id]
    assert "".join(delta.text for delta in deltas) == some.completion(request_id).text == "日本 and é"
    assert sum((delta.token_ids for delta in deltas), ()) == some.completion(request_id).token_ids
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)


def test_a_character_cut_off_by_the_token_limit_becomes_a_replacement_character() -> None:
    some = driven(says("a日"))
    request_id = some.submit("?", max_tokens=3)
    some.run()
    assert [delta.text for delta in some.deltas[request_id]] == ["a", "", "�"]
    assert some.completion(request_id).text == "a�"


def test_max_tokens_is_cut_to_what_the_models_context_leaves() -> None:
    completion = driven(FakeModel(context_length=10)).generate("abcdefg", max_tokens=100)
    assert len(completion.token_ids) == 3
    assert completion.finish_reason is FinishReason.LENGTH


def test_times_come_from_the_clock() -> None:
    clock = FakeClock()
    some = driven(clock=clock)
    request_id = some.submit([1] * 17, max_tokens=3)  # one chunk
    clock.advance(2.0)
    some.step()
    clock.advance(0.5)
    some.step()
    clock.advance(0.5)
    some.step()
    assert some.completion(request_id).timings.ttft_s == 2.0
    assert some.completion(request_id).timings.decode_tokens_per_s == 2.0


# -- many requests -----------------------------------------------------------------------------------


def test_requests_decode_together_and_join_and_leave_at_any_step() -> None:
    model = FakeModel()
    some = driven(model)
    some.submit("a", max_tokens=2)
    some.step()
    some.submit("b", max_tokens=3)
    some.step(2)
    some.submit("c", max_tokens=1)
    some.run()
    assert model.forwards == ["decode 1", "decode 2", "decode 1", "decode 2"]
    assert some.ends == [0, 1, 2]


def test_no_step_prefills_more_than_one_chunks_worth() -> None:
    model = FakeModel(prefill_step_size=16)
    some = driven(model)
    for _ in range(3):
        some.submit([1] * 25, max_tokens=2)
    while some.engine.has_work:
        model.forwards.clear()
        some.step()
        prefilled = sum(int(forward.split()[1]) for forward in model.forwards if forward.startswith("prefill"))
        assert prefilled <= 16
        assert sum(forward.startswith("decode") for forward in model.forwards) <= 1


def test_a_running_request_goes_on_while_a_long_prompt_is_prefilled() -> None:
    some = driven(FakeModel(prefill_step_size=16))
    quick = some.submit("a", max_tokens=3)
    some.submit([1] * 200, max_tokens=1)
    some.step(3)
    assert some.ends == [quick]


def test_more_requests_than_the_batch_holds_wait_in_order() -> None:
    some = driven(max_num_seqs=2)
    requests = [some.submit("a", max_tokens=3) for _ in range(5)]
    some.step()
    stats = some.engine.stats()
    assert (stats.running, stats.waiting) == (2, 3)
    some.run()
    assert some.ends == requests


def test_more_requests_than_the_pool_holds_wait_in_order_and_none_is_overtaken() -> None:
    some = driven(FakeModel(block_tokens=16), blocks=4)
    requests = [some.submit([token] * tokens, max_tokens=2) for token, tokens in ((1, 30), (2, 60), (3, 10))]
    some.step()
    stats = some.engine.stats()
    assert (stats.running, stats.waiting) == (1, 2)
    some.run()
    assert some.ends == requests


def test_every_block_can_be_handed_out_when_all_have_finished_and_only_what_is_cached_takes_memory() -> None:
    some = driven(FakeModel(block_tokens=16), blocks=8)
    for token, tokens in ((1, 5), (2, 50), (3, 17)):
        some.submit([token] * tokens, max_tokens=20)
    some.run()
    stats = some.engine.stats()
    assert (stats.pool_free_blocks, stats.pool_blocks_in_use) == (8, 0)
    assert stats.pool_cached_blocks == 8  # of 2, 5 and 3 blocks, two had to make room for the third request
    assert stats.cache_bytes == 8 * some.engine.model.profile.cache_spec.bytes_per_block
    some.engine.pool.check_integrity()


def test_without_prefix_caching_every_block_is_free_when_all_have_finished() -> None:
    some = driven(blocks=8, prefix_caching=False)
    for tokens in (5, 50, 17):
        some.submit([1] * tokens, max_tokens=20)
    some.run()
    stats = some.engine.stats()
    assert (stats.pool_free_blocks, stats.pool_cached_blocks, stats.pool_blocks_in_use) == (8, 0, 0)
    assert stats.cache_bytes == 0
    some.engine.pool.check_integrity()


# -- cancelling --------------------------------------------------------------------------------------


def test_cancelling_a_waiting_request_ends_it_and_the_others_do_not_notice() -> None:
    some = driven(max_num_seqs=1)
    first, second, third = (some.submit("a", max_tokens=2) for _ in range(3))
    some.step()
    some.cancel(second)
    some.run()
    assert some.ends == [second, first, third]
    assert some.completion(second).finish_reason is FinishReason.CANCELLED
    assert some.completion(second).token_ids == ()


def test_cancelling_during_prefill_frees_the_blocks() -> None:
    some = driven(FakeModel(prefill_step_size=16), blocks=8)
    request_id = some.submit([1] * 100, max_tokens=2)
    some.step(2)
    assert some.engine.stats().pool_blocks_in_use == 7
    some.cancel(request_id)
    stats = some.engine.stats()
    assert (stats.pool_blocks_in_use, stats.pool_free_blocks) == (0, 8)
    assert stats.pool_cached_blocks == 2  # what two chunks of 16 tokens have filled
    assert stats.cache_bytes == 2 * some.engine.model.profile.cache_spec.bytes_per_block
    assert not some.engine.has_work


def test_a_cancelled_request_keeps_what_it_had_drawn() -> None:
    some = driven()
    request_id = some.submit("abc", max_tokens=100)
    some.step(5)
    some.cancel(request_id)
    completion = some.completion(request_id)
    assert completion.token_ids == driven().generate("abc", max_tokens=5).token_ids
    assert "".join(delta.text for delta in some.deltas[request_id]) == completion.text


def test_cancelling_what_is_not_there_is_a_named_error() -> None:
    some = driven()
    request_id = some.submit("a", max_tokens=1)
    some.run()
    for unknown in (request_id, RequestId(99)):
        with pytest.raises(UnknownRequestError, match="neither waiting nor running"):
            some.engine.cancel(unknown)


def test_close_cancels_every_request_releases_the_model_and_may_be_called_twice() -> None:
    model = FakeModel()
    some = driven(model, max_num_seqs=1)
    requests = [some.submit("a", max_tokens=9) for _ in range(2)]
    some.step()
    assert [output.request_id for output in some.engine.close()] == requests
    assert model.is_released
    assert some.engine.close() == []
    assert some.engine.stats().pool_blocks_in_use == 0


# -- failing -----------------------------------------------------------------------------------------


def test_a_failing_prefill_ends_that_request_alone() -> None:
    some = driven(FakeModel(fail_on=200))
    good = some.submit("a", max_tokens=5)
    bad = some.submit([1, 200, 3], max_tokens=5)
    late = some.submit("b", max_tokens=5)
    some.run()
    assert list(some.errors) == [bad]
    assert "told to fail on token 200" in str(some.errors[bad])
    assert some.completion(good).token_ids == driven().generate("a", max_tokens=5).token_ids
    assert some.completion(late).token_ids == driven().generate("b", max_tokens=5).token_ids
    assert some.engine.stats().pool_blocks_in_use == 0


def test_a_failing_decode_ends_those_that_took_part_in_it_and_the_engine_serves_the_next() -> None:
    some = driven(FakeModel(fail_on=200), max_num_seqs=2)
    bad = some.submit([200], max_tokens=5)
    mate = some.submit("a", max_tokens=5)
    waiting = some.submit("b", max_tokens=5)
    some.run()
    assert list(some.errors) == [bad, mate]
    assert some.completion(waiting).token_ids == driven().generate("b", max_tokens=5).token_ids
    assert some.engine.stats().pool_blocks_in_use == 0


def test_a_tokenizer_that_chokes_on_a_token_ends_that_request_alone() -> None:
    model = FakeModel(choose=lambda token_ids: 300 if token_ids[0] == 98 else fake_next_token(token_ids))
    some = driven(model)
    bad, good = some.submit("a", max_tokens=5), some.submit("b", max_tokens=5)
    some.run()
    assert list(some.errors) == [bad]
    assert len(some.completion(good).token_ids) == 5
    assert some.engine.stats().pool_blocks_in_use == 0


def test_ends_are_told_to_telemetry() -> None:
    telemetry = RecordingTelemetry()
    some = driven(FakeModel(fail_on=200), telemetry=telemetry)
    some.submit("a", max_tokens=2)
    some.run()
    some.submit([200], max_tokens=2)
    some.run()
    (finished,) = telemetry.named("request.finished")
    assert (finished.facts["finish_reason"], finished.facts["completion_tokens"]) == ("length", 2)
    (failed,) = telemetry.named("request.failed")
    assert failed.level == "error"
    assert "told to fail" in failed.facts["error"]


# -- what is refused ---------------------------------------------------------------------------------


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(EmptyPromptError, match="no tokens"):
        driven().submit([])


@pytest.mark.parametrize("token_id", [-1, 257, 10**30])
def test_a_token_id_outside_the_vocabulary_is_refused_and_named_with_its_place(token_id: int) -> None:
    with pytest.raises(TokenOutOfVocabularyError, match="at position 2") as caught:
        driven().submit([1, 2, token_id])
    assert (caught.value.token_id, caught.value.position, caught.value.vocab_size) == (token_id, 2, 257)


@pytest.mark.parametrize("token_id", [1.5, "1", None])
def test_a_token_id_that_is_no_integer_is_refused(token_id: Any) -> None:
    with pytest.raises(InvalidRequestError, match="position 1"):
        driven().submit([1, token_id])


@pytest.mark.parametrize("max_tokens", [0, -1, 1.5, True, None])
def test_max_tokens_must_be_a_positive_integer(max_tokens: Any) -> None:
    with pytest.raises(InvalidRequestError, match="max_tokens must be a positive integer"):
        driven().submit("a", max_tokens=max_tokens)


@pytest.mark.parametrize(
    "sampling", [{"seed": 1.5}, {"seed": "1"}, {"top_k": 1.5}, {"stop": [1]}, {"stop_token_ids": ["a"]}]
)
def test_a_sampling_parameter_of_the_wrong_type_is_refused_before_it_can_harm_batch_mates(
    sampling: dict[str, Any],
) -> None:
    (name,) = sampling
    with pytest.raises(InvalidRequestError, match=name):
        driven().submit("a", temp=1.0, **sampling)


def test_top_k_must_be_smaller_than_the_vocabulary() -> None:
    with pytest.raises(InvalidRequestError, match="top_k"):
        driven().submit("a", temp=1.0, top_k=257)
    driven().generate("a", temp=1.0, top_k=256, max_tokens=1)


def test_a_prompt_that_leaves_no_room_in_the_context_is_refused() -> None:
    some = driven(FakeModel(context_length=10))
    with pytest.raises(PromptTooLongError, match="10 tokens and the model's context holds 10"):
        some.submit([1] * 10)
    assert len(some.generate([1] * 9, max_tokens=5).token_ids) == 1


def test_a_request_that_the_whole_pool_could_not_hold_is_refused() -> None:
    some = driven(FakeModel(block_tokens=16), blocks=2)
    with pytest.raises(RequestTooLargeError, match="need 3 blocks of 16 tokens and the whole pool has 2"):
        some.submit([1] * 30, max_tokens=4)
    assert len(some.generate([1] * 30, max_tokens=3).token_ids) == 3


def test_a_model_without_a_context_limit_is_bound_by_the_pool_alone() -> None:
    some = driven(FakeModel(context_length=None), blocks=2)
    with pytest.raises(RequestTooLargeError):
        some.submit("a", max_tokens=10**9)


def test_stop_strings_need_a_tokenizer() -> None:
    engine = no_tokenizer(fake_batch_engine())
    with pytest.raises(TokenizerRequiredError, match="stop_token_ids"):
        engine.submit([1], SamplingParams(stop="x"))


def test_without_a_tokenizer_text_is_empty_and_only_the_requests_own_stop_tokens_end_it() -> None:
    some = Driven(no_tokenizer(fake_batch_engine(model=says("hello"))))
    completion = some.generate([1], stop_token_ids=[109])
    assert (completion.text, completion.token_ids) == ("", (105, 102))


def test_a_refused_request_leaves_nothing_behind() -> None:
    some = driven()
    with pytest.raises(EmptyPromptError):
        some.submit([])
    assert not some.engine.has_work
    assert some.engine.stats().pool_blocks_in_use == 0


# -- batch mates -------------------------------------------------------------------------------------


@define
class Arrival:
    """A request that arrives in some step, and may be cancelled some steps later."""

    prompt: list[int]
    sampling: SamplingParams
    at: int
    cancelled_after: int | None


_requests = st.builds(
    Arrival,
    prompt=st.lists(st.integers(0, 256), min_size=1, max_size=50),
    sampling=st.builds(
        SamplingParams,
        max_tokens=st.integers(1, 12),
        temp=st.sampled_from([0.0, 0.8]),
        seed=st.integers(0, 3),
        stop=st.sampled_from([(), ("a",), ("ab", "q")]),
    ),
    at=st.integers(0, 12),
    cancelled_after=st.none() | st.integers(0, 8),
)


@given(
    arrivals=st.lists(_requests, min_size=1, max_size=8),
    max_num_seqs=st.integers(1, 4),
    blocks=st.integers(4, 9),
    prefix_caching=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_a_request_gets_does_not_depend_on_its_batch_mates(
    arrivals: list[Arrival], max_num_seqs: int, blocks: int, prefix_caching: bool
) -> None:
    some = driven(max_num_seqs=max_num_seqs, blocks=blocks, prefix_caching=prefix_caching)
    request_ids: dict[RequestId, Arrival] = {}
    for now in range(10_000):
        for arrival in arrivals:
            if arrival.at == now:
                request_ids[some.engine.submit(arrival.prompt, arrival.sampling)] = arrival
        for request_id, arrival in request_ids.items():
            if arrival.cancelled_after == now - arrival.at and request_id not in some.ends:
                some.cancel(request_id)
        some.step()
        some.engine.pool.check_integrity()
        if now > 12 and not some.engine.has_work:
            break
    stats = some.engine.stats()
    assert (stats.pool_free_blocks, stats.pool_blocks_in_use) == (blocks, 0)
    assert stats.cache_bytes == stats.pool_cached_blocks * some.engine.model.profile.cache_spec.bytes_per_block
    if not prefix_caching:
        assert stats.cache_bytes == 0
    for request_id, arrival in request_ids.items():
        completion, alone = some.completion(request_id), driven()
        solo_id = alone.engine.submit(arrival.prompt, arrival.sampling)
        alone.run()
        solo = alone.completion(solo_id)
        if completion.finish_reason is FinishReason.CANCELLED:
            assert completion.token_ids == solo.token_ids[: len(completion.token_ids)]
        else:
            assert (completion.token_ids, completion.text, completion.finish_reason) == (
                solo.token_ids,
                solo.text,
                solo.finish_reason,
            )


def test_without_a_seed_each_request_draws_its_own() -> None:
    seeds = iter([1, 2])
    base = fake_batch_engine()
    engine = BlockPoolBatchEngine(
        model=base.model,
        tokenizer=FakeTokenizer(),
        pool=BlockPool(64),
        clock=FakeClock(),
        telemetry=RecordingTelemetry(),
        random_seed=lambda: next(seeds),
    )
    some = Driven(engine)
    first, second = some.generate("a", temp=1.0, max_tokens=8), some.generate("a", temp=1.0, max_tokens=8)
    assert first.token_ids == driven().generate("a", temp=1.0, max_tokens=8, seed=1).token_ids
    assert second.token_ids == driven().generate("a", temp=1.0, max_tokens=8, seed=2).token_ids
    assert first.token_ids != second.token_ids
