"""The life of a request."""

from collections.abc import Callable

import pytest

from semantic.domain.entities import Sequence, SequenceState
from semantic.domain.entities.sequence import FINAL_STATES, TRANSITIONS
from semantic.domain.errors import EmptyPromptError, InvalidTransitionError
from semantic.domain.identifiers import BlockId, RequestId
from semantic.domain.value_objects import FinishReason, SamplingParams

BLOCKS = [BlockId(1), BlockId(2)]


def waiting(
    prompt: tuple[int, ...] = (11, 12, 13, 14, 15), max_tokens: int = 3, boundaries: tuple[int, ...] = ()
) -> Sequence:
    return Sequence(RequestId(7), prompt, SamplingParams(max_tokens=max_tokens), 4, boundaries)


def loading() -> Sequence:
    sequence = waiting()
    sequence.admit(BLOCKS)
    return sequence


def prefilling() -> Sequence:
    sequence = loading()
    sequence.begin()
    return sequence


def decoding() -> Sequence:
    sequence = prefilling()
    sequence.commit_chunk(4)
    return sequence


def with_a_row() -> Sequence:
    sequence = decoding()
    sequence.commit_row()
    return sequence


def finished() -> Sequence:
    sequence = decoding()
    sequence.finish(FinishReason.STOP)
    return sequence


def cancelled() -> Sequence:
    sequence = waiting()
    sequence.cancel()
    return sequence


def failed() -> Sequence:
    sequence = waiting()
    sequence.fail()
    return sequence


def facts(sequence: Sequence) -> tuple[object, ...]:
    return (
        sequence.state,
        sequence.num_cached_tokens,
        sequence.num_computed_tokens,
        tuple(sequence.output_token_ids),
        sequence.block_table.block_ids,
        sequence.finish_reason,
    )


def test_a_new_sequence_waits_and_has_computed_nothing() -> None:
    sequence = waiting()
    assert facts(sequence) == (SequenceState.WAITING, 0, 0, (), (), None)
    assert (sequence.num_prompt_tokens, sequence.num_tokens, sequence.max_total_tokens) == (5, 5, 8)
    assert not sequence.is_finished


def test_a_sequence_needs_a_prompt() -> None:
    with pytest.raises(EmptyPromptError):
        waiting(prompt=())


def test_prefill_covers_the_prompt_but_for_its_last_token() -> None:
    sequence = prefilling()
    assert sequence.block_table.block_ids == (1, 2)
    assert sequence.next_chunk(3) == (11, 12, 13)
    sequence.commit_chunk(3)
    assert (sequence.state, sequence.num_computed_tokens) == (SequenceState.PREFILLING, 3)
    assert sequence.next_chunk(3) == (14,)
    sequence.commit_chunk(1)
    assert (sequence.state, sequence.num_computed_tokens) == (SequenceState.DECODING, 4)


def test_an_admitted_sequence_has_its_blocks_and_computes_nothing_before_it_begins() -> None:
    sequence = loading()
    assert facts(sequence) == (SequenceState.LOADING, 0, 0, (), (1, 2), None)


def test_prefill_begins_behind_what_is_cached() -> None:
    sequence = loading()
    sequence.begin(num_cached_tokens=3)
    assert facts(sequence) == (SequenceState.PREFILLING, 3, 3, (), (1, 2), None)
    assert sequence.next_chunk(4) == (14,)


def test_a_sequence_with_all_but_the_last_token_cached_decodes_at_once() -> None:
    sequence = loading()
    sequence.begin(num_cached_tokens=4)
    assert (sequence.state, sequence.last_token) == (SequenceState.DECODING, 15)


def test_a_sequence_whose_cached_prefix_could_not_be_loaded_waits_again() -> None:
    sequence = loading()
    sequence.block_table.clear()
    sequence.wait()
    assert facts(sequence) == (SequenceState.WAITING, 0, 0, (), (), None)


@pytest.mark.parametrize(
    ("cached", "limit", "boundaries", "ends"),
    [
        (0, 4, (), [4, 8, 9]),
        (3, 4, (), [4, 8, 9]),
        (4, 4, (), [8, 9]),
        (5, 4, (), [8, 9]),
        (0, 4, (6,), [4, 6, 8, 9]),
        (6, 4, (6,), [8, 9]),
        (0, 16, (2, 5), [2, 5, 9]),
        (0, 16, (0, 9, 10, 99), [9]),
    ],
)
def test_chunks_end_at_multiples_of_the_limit_and_at_boundaries_whatever_was_cached(
    cached: int, limit: int, boundaries: tuple[int, ...], ends: list[int]
) -> None:
    sequence = waiting(prompt=tuple(range(10)), boundaries=boundaries)
    sequence.admit([*BLOCKS, BlockId(3)])
    sequence.begin(cached)
    seen = []
    while sequence.state is SequenceState.PREFILLING:
        sequence.commit_chunk(len(sequence.next_chunk(limit)))
        seen.append(sequence.num_computed_tokens)
    assert seen == ends


def test_asking_for_a_chunk_changes_nothing() -> None:
    sequence = prefilling()
    assert sequence.next_chunk(2) == sequence.next_chunk(2) == (11, 12)


def test_a_prompt_of_one_token_decodes_at_once() -> None:
    sequence = waiting(prompt=(11,))
    sequence.admit(BLOCKS[:1])
    sequence.begin()
    assert (sequence.state, sequence.num_computed_tokens) == (SequenceState.DECODING, 0)
    assert sequence.last_token == 11


def test_decoding_feeds_the_last_prompt_token_then_each_output() -> None:
    sequence = decoding()
    assert (sequence.last_token, sequence.num_computed_tokens) == (15, 4)
    sequence.commit_row()
    sequence.append(21)
    assert (sequence.last_token, sequence.num_computed_tokens) == (21, 5)
    sequence.commit_row()
    sequence.append(22)
    assert (sequence.last_token, sequence.num_computed_tokens) == (22, 6)
    assert sequence.output_token_ids == [21, 22]
    assert sequence.num_tokens == 7


def test_a_finished_sequence_knows_why() -> None:
    sequence = decoding()
    sequence.commit_row()
    sequence.append(21)
    sequence.finish(FinishReason.LENGTH)
    assert sequence.state is SequenceState.FINISHED
    assert sequence.finish_reason is FinishReason.LENGTH
    assert sequence.is_finished


@pytest.mark.parametrize("make", [waiting, loading, prefilling, decoding])
def test_an_unfinished_sequence_can_be_cancelled_or_fail(make: Callable[[], Sequence]) -> None:
    sequence = make()
    sequence.cancel()
    assert (sequence.state, sequence.finish_reason) == (SequenceState.CANCELLED, FinishReason.CANCELLED)
    sequence = make()
    sequence.fail()
    assert (sequence.state, sequence.finish_reason) == (SequenceState.FAILED, None)
    assert sequence.is_finished


def test_an_ended_sequence_keeps_its_blocks_until_they_are_cleared() -> None:
    assert finished().block_table.clear() == (1, 2)


VERBS: dict[str, Callable[[Sequence], object]] = {
    "admit": lambda sequence: sequence.admit(BLOCKS),
    "begin": lambda sequence: sequence.begin(1),
    "wait": lambda sequence: sequence.wait(),
    "preempt": lambda sequence: sequence.preempt(),
    "next_chunk": lambda sequence: sequence.next_chunk(2),
    "commit_chunk": lambda sequence: sequence.commit_chunk(1),
    "last_token": lambda sequence: sequence.last_token,
    "commit_row": lambda sequence: sequence.commit_row(),
    "append": lambda sequence: sequence.append(21),
    "finish": lambda sequence: sequence.finish(FinishReason.STOP),
    "cancel": lambda sequence: sequence.cancel(),
    "fail": lambda sequence: sequence.fail(),
}
ALLOWED = {
    waiting: {"admit", "cancel", "fail"},
    loading: {"begin", "wait", "cancel", "fail"},
    prefilling: {"next_chunk", "commit_chunk", "preempt", "cancel", "fail"},
    decoding: {"last_token", "commit_row", "append", "preempt", "finish", "cancel", "fail"},
    finished: set(),
    cancelled: set(),
    failed: set(),
}


EMPTY_HANDED = {"wait", "preempt"}
"""Verbs for which the blocks were given back before."""


@pytest.mark.parametrize(
    ("make", "verb"),
    [(make, verb) for make, allowed in ALLOWED.items() for verb in VERBS if verb not in allowed],
)
def test_a_verb_out_of_turn_raises_and_changes_nothing(make: Callable[[], Sequence], verb: str) -> None:
    sequence = make()
    if verb in EMPTY_HANDED:
        sequence.block_table.clear()
    before = facts(sequence)
    with pytest.raises(InvalidTransitionError, match=f"a sequence that is {sequence.state} cannot"):
        VERBS[verb](sequence)
    assert facts(sequence) == before


def test_a_preempted_sequence_begins_again_with_all_its_tokens() -> None:
    sequence = with_a_row()
    sequence.append(21)
    sequence.commit_row()
    sequence.append(22)
    sequence.block_table.clear()
    sequence.preempt()
    assert (sequence.state, sequence.num_preemptions, sequence.num_computed_tokens) == (SequenceState.WAITING, 1, 0)
    assert (sequence.num_tokens, sequence.num_prefill_tokens, sequence.max_total_tokens) == (7, 6, 8)
    sequence.admit(BLOCKS)
    sequence.begin(num_cached_tokens=4)
    assert sequence.next_chunk(4) == (15, 21)
    sequence.commit_chunk(2)
    assert (sequence.state, sequence.last_token) == (SequenceState.DECODING, 22)


def test_what_was_cached_of_the_prompt_is_counted_at_the_first_beginning_only() -> None:
    sequence = loading()
    sequence.begin(num_cached_tokens=2)
    sequence.block_table.clear()
    sequence.preempt()
    sequence.admit(BLOCKS)
    sequence.begin(num_cached_tokens=4)
    assert sequence.num_cached_tokens == 2


def test_a_sequence_grows_by_blocks_while_it_runs() -> None:
    sequence = waiting()
    sequence.admit(BLOCKS[:1])
    sequence.begin()
    sequence.commit_chunk(4)
    assert sequence.room == 0
    sequence.grow(BLOCKS[1:])
    assert (sequence.room, sequence.block_table.block_ids) == (4, (1, 2))


def test_nothing_leaves_a_final_state() -> None:
    assert not [state for state, _ in TRANSITIONS if state in FINAL_STATES]
    assert set(TRANSITIONS.values()) | {SequenceState.WAITING} == set(SequenceState)


@pytest.mark.parametrize(
    "slip",
    [
        lambda: loading().begin(5),
        lambda: loading().begin(-1),
        lambda: loading().wait(),
        lambda: decoding().preempt(),
        lambda: loading().grow(BLOCKS),
        lambda: prefilling().next_chunk(0),
        lambda: prefilling().commit_chunk(0),
        lambda: prefilling().commit_chunk(5),
        lambda: decoding().append(21),
        lambda: with_a_row().commit_row(),
        lambda: decoding().finish(FinishReason.CANCELLED),
    ],
)
def test_the_engines_own_slips_are_caught(slip: Callable[[], object]) -> None:
    with pytest.raises(AssertionError):
        slip()


def test_tokens_without_blocks_are_caught_before_they_are_recorded() -> None:
    sequence = waiting()
    sequence.admit(BLOCKS[:1])
    sequence.begin()
    sequence.commit_chunk(4)
    with pytest.raises(AssertionError, match="5 tokens do not fit the blocks"):
        sequence.commit_row()
    assert (sequence.num_computed_tokens, sequence.output_token_ids) == (4, [])


def test_output_beyond_max_tokens_is_caught() -> None:
    sequence = waiting(max_tokens=1)
    sequence.admit(BLOCKS)
    sequence.begin()
    sequence.commit_chunk(4)
    sequence.commit_row()
    sequence.append(21)
    sequence.commit_row()
    with pytest.raises(AssertionError, match="max_tokens is reached"):
        sequence.append(22)
