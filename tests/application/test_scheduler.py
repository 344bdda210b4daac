"""Who is admitted, and what a step works on."""

from semantic.application.scheduler import Scheduler, blocks_needed
from semantic.domain.entities import Sequence, SequenceState
from semantic.domain.identifiers import RequestId
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import SamplingParams

BLOCK_TOKENS = 4


def sequence(number: int, prompt_tokens: int, max_tokens: int = 4) -> Sequence:
    return Sequence(RequestId(number), [1] * prompt_tokens, SamplingParams(max_tokens=max_tokens), BLOCK_TOKENS)


def scheduler(blocks: int = 100, max_num_seqs: int = 8, prefill_step_size: int = 8) -> Scheduler:
    return Scheduler(BlockPool(blocks), max_num_seqs=max_num_seqs, prefill_step_size=prefill_step_size)


def admitted(scheduler: Scheduler) -> list[int]:
    return [sequence.request_id for sequence in scheduler.admit()]


def test_a_sequence_gets_every_block_it_can_ever_need_when_it_is_admitted() -> None:
    waiting = sequence(0, prompt_tokens=5, max_tokens=4)
    assert blocks_needed(waiting) == 2  # 5 + 4 tokens, the last of which is never fed back
    some = scheduler()
    some.add(waiting)
    assert admitted(some) == [0]
    assert len(waiting.block_table) == 2


def test_the_waiting_are_admitted_in_order_until_the_batch_is_full() -> None:
    some = scheduler(max_num_seqs=2)
    for number in range(3):
        some.add(sequence(number, 5))
    assert admitted(some) == [0, 1]
    some.remove(some.running[0])
    assert admitted(some) == [2]


def test_one_that_does_not_fit_is_not_overtaken_by_a_smaller_one() -> None:
    some = scheduler(blocks=4)
    for number, prompt_tokens in enumerate((5, 9, 1)):
        some.add(sequence(number, prompt_tokens))
    assert admitted(some) == [0]
    assert [waiting.request_id for waiting in some.waiting] == [1, 2]


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
