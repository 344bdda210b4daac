"""Who is admitted, and what a step works on."""

from collections.abc import Callable, Iterable

from semantic.application.scheduler import PATIENCE_S, Admission, Scheduler
from semantic.domain.entities import Sequence, SequenceState
from semantic.domain.identifiers import BlockId, RequestId
from semantic.domain.value_objects import Priority, SamplingParams

BLOCK_TOKENS = 4


def sequence(number: int, prompt_tokens: int, max_tokens: int = 4) -> Sequence:
    return Sequence(RequestId(number), [1] * prompt_tokens, SamplingParams(max_tokens=max_tokens), BLOCK_TOKENS)


def scheduler(max_num_seqs: int = 8, prefill_step_size: int = 8) -> Scheduler:
    return Scheduler(max_num_seqs=max_num_seqs, prefill_step_size=prefill_step_size)


def room_for(blocks: int, held_back: tuple[int, ...] = ()) -> Callable[[Sequence], Admission]:
    """Admits what fits so many blocks, as long as they last, but for those that are held back."""
    left = blocks

    def try_to_admit(sequence: Sequence) -> Admission:
        nonlocal left
        needed = sequence.block_table.blocks_needed(sequence.max_total_tokens - 1)
        if sequence.request_id in held_back:
            return Admission.HELD_BACK
        if needed > left:
            return Admission.NO_ROOM
        left -= needed
        sequence.admit(BlockId(number) for number in range(needed))
        sequence.begin()
        return Admission.ADMITTED

    return try_to_admit


def admitted(scheduler: Scheduler, blocks: int = 100, held_back: tuple[int, ...] = ()) -> list[int]:
    before = list(scheduler.running)
    scheduler.admit(room_for(blocks, held_back))
    return [sequence.request_id for sequence in scheduler.running if sequence not in before]


def numbers(sequences: Iterable[Sequence]) -> list[int]:
    return [sequence.request_id for sequence in sequences]


def test_the_waiting_are_admitted_in_order_until_the_batch_is_full() -> None:
    some = scheduler(max_num_seqs=2)
    for number in range(3):
        some.add(sequence(number, 5))
    assert admitted(some) == [0, 1]
    some.remove(some.running[0])
    assert admitted(some) == [2]


def test_one_that_does_not_fit_is_not_overtaken_by_a_smaller_one() -> None:
    some = scheduler()
    for number, prompt_tokens in enumerate((5, 9, 1)):
        some.add(sequence(number, prompt_tokens))
    assert admitted(some, blocks=4) == [0]
    assert numbers(some.waiting) == [1, 2]


def test_one_that_is_held_back_keeps_its_place_and_those_behind_it_may_pass() -> None:
    some = scheduler()
    for number in range(4):
        some.add(sequence(number, 5))
    assert admitted(some, held_back=(0, 2)) == [1, 3]
    assert numbers(some.waiting) == [0, 2]
    assert admitted(some) == [0, 2]


def test_however_many_are_held_back_a_step_looks_at_the_first_ones_alone() -> None:
    some, tried = scheduler(), list[int]()
    for number in range(1000):
        some.add(sequence(number, 5))

    def hold_back(sequence: Sequence) -> Admission:
        tried.append(sequence.request_id)
        return Admission.HELD_BACK

    some.admit(hold_back)
    assert tried == list(range(64))


def test_one_that_has_to_wait_again_is_admitted_before_those_that_came_later() -> None:
    some = scheduler(max_num_seqs=2)
    for number in range(4):
        some.add(sequence(number, 5))
    admitted(some)
    again = some.running[1]
    again.block_table.clear()
    again.preempt()
    some.put_back(again)
    assert numbers(some.running) == [0]
    assert admitted(some) == [1]


def test_an_interactive_sequence_goes_before_background_ones_that_came_earlier() -> None:
    some = scheduler(max_num_seqs=2)
    for number, priority in enumerate((Priority.BACKGROUND, Priority.BACKGROUND, Priority.INTERACTIVE)):
        some.add(sequence(number, 5), priority=priority)
    assert admitted(some) == [2, 0]
    assert some.waiting_by_priority() == {Priority.INTERACTIVE: 0, Priority.BACKGROUND: 1}


def test_a_background_sequence_that_has_waited_long_enough_counts_as_interactive() -> None:
    some = scheduler(max_num_seqs=1)
    some.add(sequence(0, 5), priority=Priority.BACKGROUND, now=0.0)
    some.add(sequence(1, 5), now=PATIENCE_S)
    some.admit(room_for(100), PATIENCE_S)
    assert numbers(some.running) == [0]


def test_the_client_that_least_was_computed_for_goes_first() -> None:
    some = scheduler(max_num_seqs=1)
    for number in range(3):
        some.add(sequence(number, 5), client="greedy")
    some.add(sequence(3, 5), client="modest")
    assert admitted(some) == [0]
    some.charge(some.running[0], 9)
    some.remove(some.running[0])
    assert admitted(some) == [3]
    some.charge(some.running[0], 20)
    some.remove(some.running[0])
    assert admitted(some) == [1]


def test_a_client_that_comes_turn_by_turn_goes_behind_one_that_had_less() -> None:
    some = scheduler(max_num_seqs=1)
    some.add(sequence(0, 5), client="greedy")
    some.add(sequence(1, 5), client="modest")
    assert admitted(some) == [0]
    some.charge(some.running[0], 100)
    some.remove(some.running[0])
    some.add(sequence(2, 5), client="greedy")
    some.add(sequence(3, 5), client="modest")
    assert admitted(some) == [1]
    some.charge(some.running[0], 9)
    some.remove(some.running[0])
    assert admitted(some) == [3]


def test_a_client_that_had_much_waits_only_so_long_for_those_that_keep_coming() -> None:
    some = scheduler(max_num_seqs=1)
    some.add(sequence(0, 5), client="greedy")
    admitted(some)
    some.add(sequence(1, 5), client="greedy")
    some.add(sequence(2, 5), client="first that comes")
    some.charge(some.running[0], 100)
    some.remove(some.running[0])
    some.admit(room_for(100), 10.0)
    assert numbers(some.running) == [2]
    some.add(sequence(3, 5), client="next that comes", now=PATIENCE_S - 1)
    some.remove(some.running[0])
    some.admit(room_for(100), PATIENCE_S)
    assert numbers(some.running) == [1]


def test_one_that_runs_all_the_time_is_not_said_to_have_waited() -> None:
    some = scheduler(max_num_seqs=1)
    some.add(sequence(0, 5), client="greedy")
    some.add(sequence(1, 5), client="greedy")
    admitted(some)
    some.charge(some.running[0], 100)
    some.add(sequence(2, 5), client="modest", now=5.0)
    some.admit(room_for(100), 2 * PATIENCE_S)
    some.remove(some.running[0])
    some.admit(room_for(100), 2 * PATIENCE_S)
    assert numbers(some.running) == [2]


def test_the_last_of_the_least_urgent_has_to_make_room_first() -> None:
    some = scheduler()
    for number, priority in enumerate((Priority.BACKGROUND, Priority.INTERACTIVE, Priority.BACKGROUND)):
        some.add(sequence(number, 5), priority=priority)
    admitted(some)
    assert some.victim(0.0) is some.running[2]
    assert numbers(some.by_age(0.0)) == [1, 0, 2]


def test_nobody_has_to_make_room_for_one_that_is_as_urgent() -> None:
    some = scheduler()
    some.add(sequence(0, 5), priority=Priority.BACKGROUND)
    admitted(some)
    urgent, patient = sequence(1, 5), sequence(2, 5)
    some.add(urgent)
    some.add(patient, priority=Priority.BACKGROUND)
    assert some.victim(0.0, below=patient) is None
    assert some.victim(0.0, below=urgent) is some.running[0]


def test_one_that_is_still_loading_takes_part_in_no_step() -> None:
    some = scheduler()
    loading = sequence(0, 5)
    some.add(loading)

    def load(sequence: Sequence) -> Admission:
        sequence.admit([BlockId(0), BlockId(1)])
        return Admission.ADMITTED

    some.admit(load)
    assert (numbers(some.running), some.chunks(), some.rows()) == ([0], [], [])
    loading.begin()
    assert [chunk.token_ids for chunk in some.chunks()] == [(1, 1, 1, 1)]


def test_a_one_token_prompt_decodes_at_once() -> None:
    some = scheduler()
    some.add(sequence(0, 1))
    assert admitted(some) == [0]
    assert some.chunks() == []
    assert [row.request_id for row in some.rows()] == [0]


def test_prefill_leaves_the_last_prompt_token_to_decode() -> None:
    some = scheduler(prefill_step_size=8)
    some.add(sequence(0, 8))
    admitted(some)
    assert [len(chunk.token_ids) for chunk in some.chunks()] == [7]


def test_a_step_prefills_no_more_than_its_budget_and_the_oldest_first() -> None:
    some = scheduler(prefill_step_size=8)
    for number, prompt_tokens in enumerate((5, 4, 3)):
        some.add(sequence(number, prompt_tokens))
    admitted(some)
    assert [(chunk.sequence.request_id, len(chunk.token_ids)) for chunk in some.chunks()] == [(0, 4), (1, 3)]


def test_chunks_are_cut_at_multiples_of_the_step_size_whatever_else_is_prefilled() -> None:
    some = scheduler(prefill_step_size=8)
    some.add(sequence(0, 4))
    some.add(sequence(1, 20))
    admitted(some)
    sizes = []
    while chunks := some.chunks():
        sizes.append([(chunk.sequence.request_id, len(chunk.token_ids)) for chunk in chunks])
        for chunk in chunks:
            chunk.sequence.commit_chunk(len(chunk.token_ids))
    assert sizes == [[(0, 3)], [(1, 8)], [(1, 8)], [(1, 3)]]


def test_a_step_may_ask_for_shorter_chunks() -> None:
    some = scheduler(prefill_step_size=8)
    some.add(sequence(0, 12))
    admitted(some)
    sizes = []
    for limit in (2, 4, 8, 8):
        (chunk,) = some.chunks(limit)
        sizes.append(len(chunk.token_ids))
        chunk.sequence.commit_chunk(sizes[-1])
    assert sizes == [2, 2, 4, 3]


def test_only_sequences_whose_prefill_has_ended_decode() -> None:
    some = scheduler()
    some.add(sequence(0, 5))
    some.add(sequence(1, 1))
    admitted(some)
    assert [row.request_id for row in some.rows()] == [1]
    assert some.running[0].state is SequenceState.PREFILLING


def test_a_sequence_is_removed_wherever_it_is() -> None:
    some = scheduler(max_num_seqs=1)
    first, second = sequence(0, 5), sequence(1, 5)
    some.add(first)
    some.add(second)
    admitted(some)
    some.remove(second)
    some.remove(first)
    assert (some.running, list(some.waiting)) == ([], [])
