"""Who is in memory: sequences grow, give way, and are taken up again just where they were."""

from typing import Any

import attrs
import pytest
from driving import Driven, cold, driven, driven_with_store
from storing import prompt as varied

from semantic.adapters.fakes import FakeModel, RecordingTelemetry
from semantic.adapters.fakes.store import MemoryStore
from semantic.domain.errors import DeadlineExceededError, InvalidRequestError, QueueFullError, RequestTooLargeError
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import FinishReason, Reuse, SamplingParams, Terms, Workspace

FIRST, SECOND, THIRD = [1] * 20, [2] * 20, [3] * 20


def preempted(some: Driven) -> list[int]:
    telemetry = some.engine._telemetry
    assert isinstance(telemetry, RecordingTelemetry)
    return [event.facts["request_id"] for event in telemetry.named("request.preempted")]


def tokens(some: Driven, request_id: RequestId) -> tuple[int, ...]:
    return some.completion(request_id).token_ids


# -- growing -----------------------------------------------------------------------------------------


def test_a_sequence_gets_a_block_beyond_what_it_has_and_more_as_it_grows() -> None:
    some = driven(blocks=64)
    some.submit(FIRST, max_tokens=200)
    some.step()
    assert some.engine.pool.num_in_use == 3  # 20 tokens and 16 more, in blocks of 16
    some.step(40)
    assert some.engine.pool.num_in_use == 4


def test_those_that_outgrow_the_pool_together_all_end_with_the_right_tokens() -> None:
    some = driven(blocks=8)
    ids = [some.submit(prompt, max_tokens=100) for prompt in (FIRST, SECOND, THIRD)]
    some.run()
    assert [tokens(some, i) for i in ids] == [cold(prompt, 100) for prompt in (FIRST, SECOND, THIRD)]
    assert some.engine.stats().preemptions >= 1
    assert some.engine.pool.num_in_use == 0


def test_the_one_that_came_last_gives_way_and_the_first_never_does() -> None:
    some = driven(blocks=11)
    ids = [some.submit(prompt, max_tokens=100) for prompt in (FIRST, SECOND, THIRD)]
    some.run()
    assert preempted(some)[:2] == [ids[2], ids[1]]
    assert ids[0] not in preempted(some)
    assert some.ends == ids


def test_what_could_never_fit_alone_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(RequestTooLargeError, match="need 9 blocks of 16 tokens and the whole pool has 8"):
        driven(blocks=8).submit(FIRST, max_tokens=110)


def test_a_model_whose_contexts_end_at_chunks_gets_all_its_blocks_at_once_and_is_never_preempted() -> None:
    some = driven(FakeModel(reuse=Reuse.AT_CHUNKS), blocks=8)
    ids = [some.submit(prompt, max_tokens=100) for prompt in (FIRST, SECOND)]
    some.step()
    assert (some.engine.pool.num_in_use, some.engine.stats().waiting) == (8, 1)
    some.run()
    assert [tokens(some, i) for i in ids] == [cold(prompt, 100) for prompt in (FIRST, SECOND)]
    assert some.engine.stats().preemptions == 0


# -- giving way to the more urgent -------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["paged", "contiguous"])
def test_a_background_sequence_gives_way_to_an_interactive_one_and_goes_on_afterwards(layout: str) -> None:
    some = driven(FakeModel(layout=layout), blocks=8)
    background = some.submit(FIRST, max_tokens=100, priority="background")
    some.step(10)
    interactive = some.submit(SECOND, max_tokens=100)
    some.run()
    assert preempted(some) == [background]
    assert some.ends == [interactive, background]
    assert [tokens(some, background), tokens(some, interactive)] == [cold(FIRST, 100), cold(SECOND, 100)]


def test_a_place_in_the_batch_is_given_up_as_well_as_blocks() -> None:
    some = driven(blocks=64, max_num_seqs=1)
    background = some.submit(FIRST, max_tokens=30, priority="background")
    some.step(5)
    interactive = some.submit(SECOND, max_tokens=5)
    some.step()
    assert [sequence.request_id for sequence in some.engine._scheduler.running] == [interactive]
    stats = some.engine.stats()
    assert (stats.waiting, stats.waiting_in_background, stats.preempted, stats.running) == (1, 1, 1, 1)
    some.run()
    assert tokens(some, background) == cold(FIRST, 30)


def test_a_prefill_that_an_interactive_request_waits_for_is_as_urgent() -> None:
    some = driven(max_num_seqs=4)
    shared = list(range(1, 161))
    some.submit(shared, max_tokens=30, priority="background")
    some.step()
    waits = some.submit([*shared, 3], max_tokens=1)
    other = some.submit([7] * 640, max_tokens=1)
    some.run()
    assert some.ends.index(waits) < some.ends.index(other)


def test_nobody_gives_way_to_one_that_is_as_urgent() -> None:
    some = driven(blocks=64, max_num_seqs=1)
    ids = [some.submit(prompt, max_tokens=5) for prompt in (FIRST, SECOND)]
    some.run()
    assert (some.ends, preempted(some)) == (ids, [])


def test_with_room_for_it_a_preempted_context_is_not_computed_again() -> None:
    some = driven(blocks=64, max_num_seqs=1)
    some.submit(FIRST, max_tokens=30, priority="background")
    some.step(10)
    some.submit(SECOND, max_tokens=5)
    some.run()
    assert some.engine.stats().prefilled_tokens == len(FIRST) - 1 + len(SECOND) - 1


def test_what_is_taken_up_again_is_no_prompt_that_was_found_in_the_cache() -> None:
    some = driven(blocks=64, max_num_seqs=1)
    some.submit([1] * 3, max_tokens=40, priority="background")
    some.step(30)
    some.submit([2] * 3, max_tokens=5)
    some.run()
    stats = some.engine.stats()
    assert stats.preemptions == 1
    assert (stats.prompt_tokens, stats.cached_tokens_from_memory) == (6, 0)


def test_nobody_is_charged_for_what_is_computed_again_after_a_preemption() -> None:
    some = driven(blocks=8)
    background = some.submit(FIRST, owner="a", max_tokens=60, priority="background")
    some.step(30)
    some.submit(SECOND, owner="b", max_tokens=100)
    scheduler = some.engine._scheduler
    while background not in some.ends:
        charged = scheduler._shares.served(("default", "a"))
        some.step()
    assert some.engine.stats().prefilled_tokens > len(FIRST) - 1 + len(SECOND) - 1  # some of it was computed again
    assert charged == len(FIRST) - 1 + 59


def test_without_room_a_preempted_context_comes_back_from_the_store() -> None:
    some = driven_with_store(MemoryStore(), FakeModel(), blocks=8)
    background = some.submit(FIRST, max_tokens=60, priority="background")
    some.step(30)
    interactive = some.submit(SECOND, max_tokens=100)
    some.run()
    stats = some.engine.stats()
    assert stats.preemptions >= 1
    assert stats.loaded_blocks >= 1
    assert stats.prefilled_tokens == len(FIRST) - 1 + len(SECOND) - 1
    assert [tokens(some, background), tokens(some, interactive)] == [cold(FIRST, 60), cold(SECOND, 100)]


def test_nobody_gives_way_while_what_is_read_ahead_will_make_room() -> None:
    store = MemoryStore()
    driven_with_store(store).generate(THIRD * 2, max_tokens=2)
    some = driven_with_store(store, FakeModel(), blocks=8, max_num_seqs=2)
    ids = [some.submit(prompt, max_tokens=40) for prompt in (FIRST, SECOND)]
    ids.append(some.submit(THIRD * 2, max_tokens=2))
    some.step(40)  # both outgrow their three blocks while two more are on their way from the store
    assert some.engine.pool.num_in_use == 8
    assert preempted(some) == []
    some.run()
    assert [tokens(some, i) for i in ids] == [cold(FIRST, 40), cold(SECOND, 40), cold(THIRD * 2, 2)]
    assert preempted(some) == []


def test_only_for_the_next_in_line_is_the_store_read_ahead() -> None:
    store = MemoryStore()
    left = driven_with_store(store)
    prompts = [varied(33, seed=3 * number) for number in range(8)]
    for one in prompts:
        left.generate(one, max_tokens=1)
    some = driven_with_store(store, FakeModel(), blocks=64, max_num_seqs=1)
    some.submit(FIRST, max_tokens=20)
    some.step()
    ids = [some.submit(one, max_tokens=1) for one in prompts]
    some.step(5)
    assert some.engine.pool.num_in_use == 3 + 4 * 2  # its own, and two whole blocks of each that are on their way
    some.run()
    assert [tokens(some, i) for i in ids] == [cold(one, 1) for one in prompts]


def test_what_one_would_need_that_does_not_fit_is_not_kept_from_others() -> None:
    model = FakeModel(layout="contiguous")
    per_token = model.profile.cache_spec.bytes_per_block // 16
    model.profile = attrs.evolve(model.profile, workspace=Workspace(bytes_per_context_token=per_token))
    some = driven(model, blocks=16)
    some.submit(FIRST, max_tokens=40)
    some.step()
    assert some.engine.pool.num_available == 8  # of 16, four are its blocks, and as many its workspace
    some.submit(SECOND, max_tokens=80)
    some.step()
    assert some.engine.stats().waiting == 1
    assert some.engine.pool.num_available == 8


def test_a_preempted_request_may_be_cancelled_and_says_what_it_had() -> None:
    some = driven(blocks=64, max_num_seqs=1)
    background = some.submit(FIRST, max_tokens=30, priority="background")
    some.step(6)
    some.submit(SECOND, max_tokens=5)
    some.step()
    some.cancel(background)
    completion = some.completion(background)
    assert completion.finish_reason is FinishReason.CANCELLED
    assert completion.token_ids == cold(FIRST, 30)[: len(completion.token_ids)]
    assert len(completion.token_ids) == 5


# -- deadlines and the queue -------------------------------------------------------------------------


def test_a_request_that_is_late_ends_with_an_error_that_holds_what_there_was() -> None:
    some = driven()  # every look at the clock takes a millisecond
    late = some.submit(FIRST, max_tokens=100, deadline_s=0.1)
    other = some.submit(SECOND, max_tokens=100)
    some.run()
    error = some.errors[late]
    assert isinstance(error, DeadlineExceededError)
    assert isinstance(error, TimeoutError)
    assert str(error) == "the request did not end within 0.1 s; allow more deadline_s, or ask for less"
    had = error.completion.token_ids
    assert 0 < len(had) < 100
    assert had == cold(FIRST, 100)[: len(had)]
    assert tokens(some, other) == cold(SECOND, 100)
    assert some.engine.pool.num_in_use == 0


def test_a_request_may_be_late_before_it_ever_ran() -> None:
    some = driven(max_num_seqs=1)
    some.submit(FIRST, max_tokens=100)
    late = some.submit(SECOND, max_tokens=5, deadline_s=0.01)
    some.run()
    error = some.errors[late]
    assert isinstance(error, DeadlineExceededError)
    assert error.completion.token_ids == ()


@pytest.mark.parametrize("deadline_s", [0, -1.0, float("inf"), float("nan"), "5", True])
def test_a_deadline_is_a_positive_number_of_seconds(deadline_s: Any) -> None:
    with pytest.raises(InvalidRequestError, match="deadline_s must be a positive number of seconds from now"):
        Terms(deadline_s=deadline_s)


def test_a_priority_is_one_of_two() -> None:
    with pytest.raises(InvalidRequestError, match="priority must be one of interactive, background, got 'urgent'"):
        Terms(priority="urgent")


def test_more_than_the_queue_takes_is_refused_and_those_in_it_are_served() -> None:
    some = driven(max_num_seqs=1, max_waiting=2)
    ids = [some.submit(FIRST, max_tokens=2)]
    some.step()
    ids += [some.submit(SECOND, max_tokens=2), some.submit(THIRD, max_tokens=2)]
    with pytest.raises(QueueFullError, match="2 requests are waiting and the queue takes 2; try again"):
        some.submit(FIRST, max_tokens=2)
    some.run()
    assert some.ends == ids
    some.generate(FIRST, max_tokens=2)


def test_one_that_was_promised_a_place_has_it_also_if_others_wait_again_by_then() -> None:
    some = driven(max_num_seqs=1, max_waiting=1)
    background = some.submit(FIRST, max_tokens=20, priority="background")
    some.step(5)
    promised = some.engine.new_request_id()
    interactive = some.submit(SECOND, max_tokens=5)
    some.step()  # the first one waits again
    some.engine.submit(THIRD, SamplingParams(max_tokens=2), request_id=promised)
    some.run()
    assert sorted(some.ends) == [background, promised, interactive]


# -- the gap between two tokens ----------------------------------------------------------------------


def test_while_others_decode_a_prompt_is_read_in_chunks_that_fit_the_gap() -> None:
    model = FakeModel(prefill_step_size=64, block_tokens=64)
    some = driven(model, max_token_gap_s=0.001)  # less than any step takes
    some.submit([1], max_tokens=60)
    some.step(2)
    some.submit([2] * 129, max_tokens=1)
    some.step(8)
    assert [forward for forward in model.forwards if forward.startswith("prefill")] == ["prefill 32"] + [
        "prefill 16"
    ] * 6


def test_while_nobody_decodes_a_prompt_is_read_in_whole_chunks() -> None:
    model = FakeModel(prefill_step_size=64, block_tokens=64)
    driven(model, max_token_gap_s=0.001).generate([2] * 129, max_tokens=1)
    assert model.forwards == ["prefill 64", "prefill 64", "decode 1"]


def test_where_chunks_decide_what_is_said_they_stay_whole() -> None:
    model = FakeModel(prefill_step_size=64, block_tokens=64, reuse=Reuse.AT_CHUNKS)
    some = driven(model, max_token_gap_s=0.001)
    some.submit([1], max_tokens=60)
    some.step(2)
    some.submit([2] * 129, max_tokens=1)
    some.step(8)
    assert [forward for forward in model.forwards if forward.startswith("prefill")] == ["prefill 64", "prefill 64"]
