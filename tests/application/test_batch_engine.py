"""The batch engine on fakes, stepped by hand."""

import pytest
from driving import driven, says

from semantic.adapters.fakes import (
    FakeClock,
    FakeModel,
    FakeTokenizer,
    RecordingTelemetry,
    fake_next_token,
)
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.domain.errors import (
    UnknownRequestError,
)
from semantic.domain.identifiers import RequestId
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import FinishReason


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
