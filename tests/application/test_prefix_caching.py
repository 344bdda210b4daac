"""What sequences share in memory, on fakes, stepped by hand. Blocks hold 16 tokens, and so do chunks."""

from typing import Any

import pytest
from driving import Driven, cold, driven
from storing import EVERY_KIND, KINDS, prompt

from semantic.adapters.fakes import FakeModel
from semantic.domain.identifiers import BlockId, RequestId
from semantic.domain.value_objects import pack_tokens

WHERE_ANY_TOKEN_SERVES = pytest.mark.parametrize("kind", ["pages anywhere", "copies anywhere"])


def engine_of(kind: str, *, fail_on: int | None = None, size: int = 16, **parts: Any) -> Driven:
    return driven(FakeModel(**KINDS[kind], fail_on=fail_on, block_tokens=size, prefill_step_size=size), **parts)


def pages(**parts: Any) -> Driven:
    return engine_of("pages anywhere", **parts)


def table(some: Driven, request_id: RequestId) -> tuple[BlockId, ...]:
    """The blocks of a running request."""
    (sequence,) = [running for running in some.engine._scheduler.running if running.request_id == request_id]
    return sequence.block_table.block_ids


def prefilled(some: Driven) -> int:
    return some.engine.stats().prefilled_tokens


# -- what is found -----------------------------------------------------------------------------------


@EVERY_KIND
def test_whole_blocks_of_an_earlier_prompt_are_not_computed_again(kind: str) -> None:
    some = engine_of(kind)
    some.generate(prompt(33), max_tokens=1)
    before = prefilled(some)
    again = some.generate(prompt(33), max_tokens=5)
    assert again.usage.cached_tokens == 32
    assert prefilled(some) == before
    assert again.token_ids == cold(prompt(33), 5)


@EVERY_KIND
def test_the_last_token_of_a_prompt_is_always_decoded_even_if_all_of_it_is_cached(kind: str) -> None:
    some = engine_of(kind)
    first = some.generate(prompt(32), max_tokens=20)
    again = some.generate(prompt(32), max_tokens=20)
    assert again.token_ids == first.token_ids == cold(prompt(32), 20)
    expected = {"pages anywhere": 31, "copies anywhere": 31, "copies at states": 31}
    assert again.usage.cached_tokens == expected.get(kind, 16)


@EVERY_KIND
def test_a_prompt_of_one_token_has_nothing_to_find(kind: str) -> None:
    some = engine_of(kind)
    some.generate(prompt(33), max_tokens=1)
    assert some.generate(prompt(1), max_tokens=3).usage.cached_tokens == 0


@WHERE_ANY_TOKEN_SERVES
def test_a_match_may_end_inside_a_block(kind: str) -> None:
    some = engine_of(kind)
    some.generate(prompt(33), max_tokens=1)
    parting = [*prompt(25), 251, 252]
    completion = some.generate(parting, max_tokens=4)
    assert completion.usage.cached_tokens == 25
    assert completion.token_ids == cold(parting, 4)


def test_where_states_are_needed_only_what_was_left_at_a_boundary_is_found() -> None:
    some = engine_of("copies at states")
    some.generate(prompt(50), boundaries=(25,), max_tokens=1)
    parting = [*prompt(30), 251, 252]
    completion = some.generate(parting, max_tokens=4)
    assert completion.usage.cached_tokens == 25
    assert completion.token_ids == cold(parting, 4)


@pytest.mark.parametrize("kind", ["pages at chunks", "copies at chunks"])
def test_in_the_bit_lane_only_whole_chunks_are_found_and_nothing_that_was_decoded(kind: str) -> None:
    some = engine_of(kind)
    turn = some.generate(prompt(20), max_tokens=30)
    context = [*prompt(20), *turn.token_ids]
    assert some.generate([*context, 251], max_tokens=1).usage.cached_tokens == 16


@EVERY_KIND
def test_namespaces_share_nothing(kind: str) -> None:
    some = engine_of(kind)
    some.generate(prompt(40), namespace="a", max_tokens=1)
    assert some.generate(prompt(40), namespace="b", max_tokens=1).usage.cached_tokens == 0
    assert some.generate(prompt(40), namespace="a", max_tokens=1).usage.cached_tokens >= 32


@EVERY_KIND
def test_without_prefix_caching_nothing_is_found_and_nothing_is_kept(kind: str) -> None:
    some = engine_of(kind, prefix_caching=False)
    for _ in range(2):
        completion = some.generate(prompt(40), max_tokens=3)
        assert (completion.usage.cached_tokens, completion.token_ids) == (0, cold(prompt(40), 3))
    assert some.engine.stats().pool_cached_blocks == 0
    assert some.engine.model.memory.blocks == {}


# -- who writes where --------------------------------------------------------------------------------


def test_shared_blocks_are_the_same_memory_in_both_tables() -> None:
    some = pages()
    first = some.submit(prompt(40), max_tokens=30)
    some.step(4)
    second = some.submit([*prompt(32), 251, 252], max_tokens=30)
    some.step()
    assert table(some, first)[:2] == table(some, second)[:2]
    assert not set(table(some, first)[2:]) & set(table(some, second)[2:])
    some.run()
    assert some.completion(first).token_ids == cold(prompt(40), 30)
    assert some.completion(second).token_ids == cold([*prompt(32), 251, 252], 30)


def test_a_match_inside_a_block_is_copied_and_nobodys_rows_change() -> None:
    some = pages()
    some.generate(prompt(33), max_tokens=1)
    memory, index = some.engine.model.memory, some.engine.cache.index
    before = {block.hash: (block.block_id, memory.contents(block.block_id, block.num_tokens)) for block in index}
    contents = {name: bytes(tensors[0].pieces[0]) for name, (_, tensors) in before.items()}
    some.generate([*prompt(25), 251, 252], max_tokens=9)
    for name, (block_id, tensors) in before.items():
        assert bytes(tensors[0].pieces[0]) == contents[name] == index.get(name).tokens
        assert index.get(name).block_id == block_id


def test_the_next_turn_goes_on_in_the_very_block_where_the_last_one_ended() -> None:
    some = pages()
    turn = some.submit(prompt(20), max_tokens=6)
    some.step(3)
    blocks = table(some, turn)
    some.run()
    context = [*prompt(20), *some.completion(turn).token_ids]
    next_turn = some.submit([*context, 251, 252], max_tokens=4)
    some.step()
    assert table(some, next_turn)[:2] == blocks
    some.run()
    assert some.cached_tokens(next_turn) == 25  # the last token drawn was never fed
    assert some.completion(next_turn).token_ids == cold([*context, 251, 252], 4)


@pytest.mark.parametrize("kind", ["pages anywhere", "copies anywhere", "copies at states"])
def test_a_conversation_computes_each_token_once(kind: str) -> None:
    some = engine_of(kind)
    context: list[int] = []
    for turn in range(6):
        context += prompt(9, seed=turn)
        completion = some.generate(context, max_tokens=7)
        assert completion.token_ids == cold(context, 7)
        assert completion.usage.cached_tokens == (0 if turn == 0 else len(context) - 10)
        context += completion.token_ids
    assert prefilled(some) == 8 + 5 * 9  # all of each turn but its last token, and the last drawn before it


def test_of_two_that_continue_one_tail_the_first_writes_on_it_and_the_other_copies_it() -> None:
    some = pages()
    turn = some.submit(prompt(20), max_tokens=1)
    some.step(2)
    tail = some.engine.cache.index.match(some.engine.context.root(), pack_tokens(prompt(20)), 20).blocks[-1].block_id
    some.run()
    one, other = ([*prompt(20), number] for number in (251, 252))
    first, second = some.submit(one, max_tokens=9), some.submit(other, max_tokens=9)
    some.step()
    assert table(some, first)[1] == tail
    assert table(some, second)[1] != tail
    some.run()
    assert (some.cached_tokens(turn), some.cached_tokens(first), some.cached_tokens(second)) == (0, 20, 20)
    assert some.completion(first).token_ids == cold(one, 9)
    assert some.completion(second).token_ids == cold(other, 9)


def test_a_tail_that_a_failed_request_wrote_on_is_copied_by_the_next() -> None:
    some = pages(fail_on=200)
    some.generate(prompt(20), max_tokens=1)
    failed = some.submit([*prompt(20), 251, 252, 253, 200], max_tokens=3)
    some.run()
    assert list(some.errors) == [failed]
    good = [*prompt(20), 253, 254]
    completion = some.generate(good, max_tokens=5)
    assert completion.usage.cached_tokens == 20
    assert completion.token_ids == cold(good, 5)


@EVERY_KIND
def test_what_a_failed_request_computed_before_it_failed_is_still_right(kind: str) -> None:
    some = engine_of(kind, fail_on=200)
    failed = some.submit([*prompt(33), 200, 1], max_tokens=3)
    mate = some.submit(prompt(10, seed=9), max_tokens=3)
    some.run()
    assert list(some.errors) == [failed]
    assert some.completion(mate).token_ids == cold(prompt(10, seed=9), 3)
    completion = some.generate([*prompt(33), 1, 2], max_tokens=3)
    assert completion.token_ids == cold([*prompt(33), 1, 2], 3)
    assert some.engine.stats().pool_blocks_in_use == 0


def test_a_longer_tail_takes_the_place_of_the_shorter_one() -> None:
    some = pages()
    some.generate(prompt(5), max_tokens=4)
    assert [block.num_tokens for block in some.engine.cache.index] == [8]
    some.generate(prompt(5), max_tokens=7)
    assert [block.num_tokens for block in some.engine.cache.index] == [11]


def test_a_shorter_tail_stays_while_an_agent_refers_to_it() -> None:
    some = pages()
    some.generate(prompt(5), max_tokens=4)
    (tail,) = some.engine.cache.index
    some.engine.cache.references.replace("alice", [tail.hash])
    some.generate(prompt(5), owner="bob", max_tokens=7)
    assert sorted(block.num_tokens for block in some.engine.cache.index) == [8, 11]
    some.generate(prompt(5), owner="alice", max_tokens=9)
    assert [block.num_tokens for block in some.engine.cache.index] == [13]


# -- arriving together -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pages anywhere", "copies anywhere", "copies at states"])
def test_ten_that_arrive_at_once_compute_a_common_prefix_shorter_than_a_block_once(kind: str) -> None:
    some = engine_of(kind, size=256)
    questions = [[*prompt(60), *prompt(5, seed=number)] for number in range(1, 11)]
    requests = [some.submit(question, max_tokens=3) for question in questions]
    some.run()
    for request_id, question in zip(requests, questions, strict=True):
        assert some.completion(request_id).token_ids == cold(question, 3)
    assert prefilled(some) == 64 + 9 * 4
    assert [some.cached_tokens(request_id) for request_id in requests] == [0] + [60] * 9


@EVERY_KIND
def test_ten_that_arrive_at_once_compute_whole_blocks_once(kind: str) -> None:
    some = engine_of(kind, blocks=200)
    questions = [[*prompt(64), *prompt(5, seed=number)] for number in range(1, 11)]
    requests = [some.submit(question, max_tokens=3) for question in questions]
    some.run()
    for request_id, question in zip(requests, questions, strict=True):
        assert some.completion(request_id).token_ids == cold(question, 3)
    assert prefilled(some) == 68 + 9 * 4
    assert [some.cached_tokens(request_id) for request_id in requests] == [0] + [64] * 9


@EVERY_KIND
def test_when_the_one_that_all_wait_for_is_cancelled_the_next_takes_over(kind: str) -> None:
    some = engine_of(kind)
    questions = [[*prompt(64), 250 + number] for number in range(3)]
    leader, *followers = [some.submit(question, max_tokens=3) for question in questions]
    some.step(2)
    assert some.engine.stats().waiting == 2
    some.cancel(leader)
    some.run()
    for request_id, question in zip(followers, questions[1:], strict=True):
        assert some.completion(request_id).token_ids == cold(question, 3)
    assert prefilled(some) == 64


def test_one_with_little_in_common_does_not_wait() -> None:
    some = pages()
    some.submit(prompt(60), max_tokens=1)
    some.submit([*prompt(15), *prompt(40, seed=3)], max_tokens=1)
    some.step()
    assert some.engine.stats().running == 2


def test_one_that_waits_for_a_prefix_is_passed_by_those_that_have_nothing_to_wait_for() -> None:
    some = pages()
    leader, follower = some.submit([*prompt(60), 251], max_tokens=1), some.submit([*prompt(60), 252], max_tokens=1)
    other = some.submit(prompt(5, seed=3), max_tokens=1)
    some.run()
    assert set(some.ends[:2]) == {leader, other}
    assert some.ends[2] == follower


# -- when there is no room ---------------------------------------------------------------------------


@EVERY_KIND
def test_a_request_that_needs_the_whole_pool_runs_even_if_all_of_it_is_cached(kind: str) -> None:
    some = engine_of(kind, blocks=4)
    for _ in range(3):
        assert some.generate(prompt(60), max_tokens=5).token_ids == cold(prompt(60), 5)
        assert some.generate(prompt(60, seed=5), max_tokens=5).token_ids == cold(prompt(60, seed=5), 5)
    assert some.engine.stats().pool_free_blocks == 4


@pytest.mark.parametrize(
    ("kind", "blocks"),
    [
        ("pages anywhere", 11),
        ("copies anywhere", 14),
        ("copies at states", 14),
        ("pages at chunks", 9),
        ("copies at chunks", 12),
    ],
)
def test_the_context_used_longest_ago_is_evicted_first(kind: str, blocks: int) -> None:
    """One block less than three contexts take, the last while it is running."""
    some = engine_of(kind, blocks=blocks)
    for seed in (1, 2, 1, 3):
        some.generate(prompt(49, seed), max_tokens=1)
    assert some.engine.stats().evicted_blocks == 1
    first, second, third = (match_of(some, prompt(49, seed)) for seed in (1, 2, 3))
    assert first == third > second


@EVERY_KIND
def test_the_end_of_a_context_is_evicted_before_its_beginning(kind: str) -> None:
    some = engine_of(kind, blocks=7)
    some.generate(prompt(81), boundaries=(16, 32, 48, 64), max_tokens=1)
    before = match_of(some, prompt(82))
    some.generate(prompt(40, seed=4), max_tokens=1)
    assert 0 < match_of(some, prompt(82)) < before


def match_of(some: Driven, token_ids: list[int]) -> int:
    """How much of a prompt would be found now."""
    return some.engine.cache.match(some.engine.cache.lease(some.engine.context.root(), token_ids), 999).num_tokens


# -- what is counted ---------------------------------------------------------------------------------


def test_the_counts_say_what_was_asked_and_what_was_found() -> None:
    some = pages()
    for _ in range(2):
        some.generate(prompt(33), max_tokens=2)
    stats = some.engine.stats()
    assert (stats.prompt_tokens, stats.cached_tokens_from_memory, stats.cached_tokens_from_store) == (66, 32, 0)
    assert stats.prefilled_tokens == 32
    assert (stats.pool_cached_blocks, stats.evicted_blocks, stats.store) == (3, 0, None)
