"""Drafts change when tokens are drawn, never which: at stops, limits and block borders, in batches, on prefix hits."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from driving import Driven, Oracle, cold, driven

from semantic.adapters.fakes import FakeClock, FakeModel, FakeTokenizer
from semantic.application.ports.model import DecodeRow, Drawn
from semantic.domain.value_objects import FinishReason, Reuse

PROMPT = [9, 8, 7, 6, 5]


def speculating(model: FakeModel | None = None, *, wrong: int = 0, **parts: Any) -> Driven:
    return driven(
        model, prompt_lookup_num_tokens=7, make_drafter=lambda token_ids: Oracle(token_ids, wrong=wrong), **parts
    )


def copying(period: int) -> Callable[[Sequence[int]], int]:
    return lambda token_ids: token_ids[-period]


@pytest.mark.parametrize("wrong", [0, 2, 3, 5])
@pytest.mark.parametrize("max_tokens", [1, 2, 3, 8, 9, 10, 40])
def test_the_output_is_that_of_a_run_without_drafts(wrong: int, max_tokens: int) -> None:
    done = speculating(wrong=wrong).generate(PROMPT, max_tokens=max_tokens)
    assert done.token_ids == cold(PROMPT, max_tokens)
    assert done.finish_reason is FinishReason.LENGTH


def test_right_drafts_save_steps_and_the_statistics_say_so() -> None:
    some = speculating(FakeModel(block_tokens=64))
    some.generate(PROMPT, max_tokens=33)
    stats = some.engine.stats()
    assert [forward for forward in some.engine.model.forwards if forward.startswith("decode")] == ["decode 1"] * 5
    assert (stats.drafted_tokens, stats.accepted_tokens, stats.generated_tokens) == (28, 28, 33)


def test_a_delta_brings_all_tokens_that_were_drawn_at_once() -> None:
    some = speculating()
    request_id = some.submit(PROMPT, max_tokens=10)
    some.run()
    assert [len(delta.token_ids) for delta in some.deltas[request_id]] == [1, 8, 1]
    text = "".join(delta.text for delta in some.deltas[request_id])
    assert text == some.completion(request_id).text == FakeTokenizer().decode(cold(PROMPT, 10))


@pytest.mark.parametrize("sampling", [{}, {"temp": 1.0}], ids=["greedy", "sampled"])
def test_rows_of_one_batch_draft_as_each_may(sampling: dict[str, Any]) -> None:
    prompts = [[5, 4, 3], [7, 7, 7, 7], [1], PROMPT]
    plain, drafting = driven(), speculating(wrong=4)
    for some in (plain, drafting):
        for number, prompt in enumerate(prompts):
            some.submit(prompt, max_tokens=9 + number, seed=number, **sampling)
        some.run()
    for request_id in plain.ends:
        assert drafting.completion(request_id).token_ids == plain.completion(request_id).token_ids
    assert drafting.engine.stats().drafted_tokens > 0


def test_a_stop_token_within_what_was_drafted_ends_the_output_before_it() -> None:
    expected = cold(PROMPT, 20)
    stop = next(token for token in expected[3:] if token not in expected[:3])
    done = speculating().generate(PROMPT, max_tokens=20, stop_token_ids=[stop])
    assert done.token_ids == expected[: expected.index(stop)]
    assert done.finish_reason is FinishReason.STOP


def test_a_stop_string_within_what_was_drafted_ends_the_text_before_it() -> None:
    text = FakeTokenizer().decode(cold(PROMPT, 20))
    plain, drafting = (some.generate(PROMPT, max_tokens=20, stop=[text[4:6]]) for some in (driven(), speculating()))
    assert drafting.text == plain.text == text[: text.index(text[4:6])]
    assert drafting.token_ids == plain.token_ids


@pytest.mark.parametrize(
    ("layout", "reuse"),
    [("paged", Reuse.ANYWHERE), ("contiguous", Reuse.ANYWHERE), ("contiguous", Reuse.AT_STATES)],
    ids=str,
)
@pytest.mark.parametrize("ending", ["stop", "limit", "cancel"])
def test_what_an_interrupted_draft_leaves_behind_can_be_taken_up(layout: str, reuse: Reuse, ending: str) -> None:
    some = speculating(FakeModel(layout=layout, reuse=reuse, block_tokens=8, prefill_step_size=8))
    expected = cold(PROMPT, 30)
    stop = next(token for token in expected[6:] if token not in expected[:6])
    request_id = some.submit(PROMPT, max_tokens=14, stop_token_ids=[stop] if ending == "stop" else ())
    if ending == "cancel":
        some.step(2)
        some.cancel(request_id)
    some.run()
    output = list(some.completion(request_id).token_ids)
    assert output == list(expected[: len(output)])
    going_on = some.generate([*PROMPT, *output, 3], max_tokens=12)
    assert going_on.token_ids == cold([*PROMPT, *output, 3], 12)
    assert going_on.usage.cached_tokens >= len(output)
    some.engine.pool.check_integrity()


def test_states_are_kept_where_they_are_without_drafts() -> None:
    model = lambda: FakeModel(layout="contiguous", reuse=Reuse.AT_STATES, block_tokens=4, prefill_step_size=4)  # noqa: E731
    kept = []
    for some in (driven(model()), speculating(model())):
        some.generate(PROMPT, max_tokens=14)
        blocks = list(some.engine.cache.index)
        kept.append(sorted((block.start, block.tokens, block.has_state) for block in blocks))
        memory = some.engine.model.memory
        assert all(memory.blocks[block.block_id].has_state == block.has_state for block in blocks)
    assert kept[0] == kept[1]


def test_the_rows_of_a_step_share_what_it_may_feed() -> None:
    some = speculating(FakeModel(block_tokens=64), max_num_seqs=4)
    for prompt in ([1, 2], [3, 4], [5, 6]):
        some.submit(prompt, max_tokens=20)
    some.submit([7, 8], max_tokens=1)
    some.step()
    some.step()
    assert some.engine.stats().drafted_tokens == 5, "of eight tokens three are the rows' own"
    assert [len(deltas[-1].token_ids) for deltas in some.deltas.values()] == [2, 3, 3, 1]


def test_a_model_that_verifies_apart_drafts_for_a_sequence_alone_and_not_in_a_batch() -> None:
    some = speculating(FakeModel(verifies_drafts="apart"))
    some.submit(PROMPT, max_tokens=9)
    some.submit([1, 2], max_tokens=9)
    some.run()
    assert some.engine.stats().drafted_tokens == 0
    some.generate(PROMPT, max_tokens=9)
    assert some.engine.stats().drafted_tokens == 7


def test_a_model_that_verifies_none_gets_none() -> None:
    some = speculating(FakeModel(verifies_drafts="never"))
    assert some.generate(PROMPT, max_tokens=9).token_ids == cold(PROMPT, 9)
    assert some.engine.stats().drafted_tokens == 0


def test_a_draft_that_fails_ends_its_batch_and_nothing_else() -> None:
    some = speculating(FakeModel(fail_on=cold(PROMPT, 9)[8]))
    failing = some.submit(PROMPT, max_tokens=30)
    some.run()
    assert "told to fail" in str(some.errors[failing])
    assert some.generate([1, 2, 3], max_tokens=5).token_ids == cold([1, 2, 3], 5)
    some.engine.pool.check_integrity()


def test_a_model_that_copies_is_served_in_a_fraction_of_the_steps() -> None:
    page = list(range(1, 60))
    some = driven(FakeModel(choose=copying(59)), prompt_lookup_num_tokens=15)
    done = some.generate([*page, 1, 2], max_tokens=200)
    assert list(done.token_ids[:57]) == page[2:]
    assert some.engine.stats().steps < 40
    assert some.engine.stats().accepted_tokens > 160


class OnTheClock(FakeModel):
    """Takes a tenth longer for each drafted token."""

    clock = FakeClock()

    def decode(self, rows: Sequence[DecodeRow]) -> list[tuple[Drawn, ...]]:
        self.clock.advance(0.01 + 0.001 * sum(len(row.draft) for row in rows))
        return super().decode(rows)


def test_a_model_that_does_not_copy_is_hardly_ever_drafted_for() -> None:
    some = driven(OnTheClock(), prompt_lookup_num_tokens=15, clock=OnTheClock.clock)
    done = some.generate([1, 2] * 30, max_tokens=400)
    assert done.token_ids == cold([1, 2] * 30, 400)
    stats = some.engine.stats()
    assert stats.drafted_tokens - stats.accepted_tokens < 20


def test_nothing_is_looked_up_before_the_first_token() -> None:
    made: list[int] = []

    def make_drafter(token_ids: Iterable[int]) -> Oracle:
        made.append(len(list(token_ids)))
        return Oracle([])

    some = driven(prompt_lookup_num_tokens=3, make_drafter=make_drafter)
    some.submit(PROMPT, max_tokens=3)
    some.step()
    assert made == []
    some.step()
    assert made == [6]
