"""What outlives memory and process: an engine on a store in memory, whose reads and writes happen when a test says so.

Blocks hold 16 tokens, and so do chunks.
"""

import pytest
from driving import cold
from stored_blocks import record
from storing import BLOCK_BYTES, EVERY_KIND, filled_store, on_disk, prompt, started, stored

from semantic.adapters.fakes.store import MemoryStore
from semantic.domain.value_objects import FinishReason

# -- writing behind ----------------------------------------------------------------------------------


def test_a_block_is_held_until_it_is_saved_and_then_can_be_evicted() -> None:
    some = started(MemoryStore(), blocks=8)
    some.submit(prompt(33), max_tokens=1)
    while some.engine.has_work:
        some.step()
    stats = some.engine.stats()
    assert (stats.pool_blocks_in_use, stats.pool_cached_blocks) == (3, 0)
    assert stats.store is not None
    assert stats.store.pending_jobs == 3
    some.write()
    stats = some.engine.stats()
    assert (stats.pool_blocks_in_use, stats.pool_cached_blocks) == (0, 3)
    assert on_disk(some) == [(0, 16), (16, 32), (32, 33)]


def test_a_request_that_needs_blocks_still_being_saved_waits_for_them() -> None:
    some = started(MemoryStore(), blocks=4)
    first = some.submit(prompt(60), max_tokens=1)
    second = some.submit(prompt(60, seed=5), max_tokens=1)
    some.step(10)
    assert some.ends == [first]
    some.write()
    some.step(10)
    assert some.ends == [first, second]


def test_a_tail_is_saved_when_its_sequence_ends_and_not_before() -> None:
    some = started(MemoryStore())
    some.submit(prompt(20), max_tokens=5)
    some.step(3)
    some.write()
    assert on_disk(some) == [(0, 16)]
    some.run()
    assert on_disk(some) == [(0, 16), (16, 24)]


def test_where_states_are_needed_they_are_saved_as_they_are_reached() -> None:
    some = started(MemoryStore(), "copies at states")
    some.submit(prompt(20), boundaries=(10,), max_tokens=5)
    some.step(4)
    some.write()
    assert on_disk(some) == [(0, 10), (0, 16), (16, 19)]


def test_blocks_are_durable_before_the_record_that_refers_to_them() -> None:
    some = started(MemoryStore())
    some.submit(prompt(33), max_tokens=1)
    while some.engine.has_work:
        some.step()
    some.tier.save_agent(record("alice"), [block.hash for block in some.engine.cache.index])
    while not some.store.agents():
        assert some.write(1)
    (alice,) = some.store.agents()
    assert len(alice.blocks) == 3
    assert set(alice.blocks) <= {block.hash for block in some.store.blocks(some.engine.context.digest)}


# -- after a restart ---------------------------------------------------------------------------------


@EVERY_KIND
def test_after_a_restart_a_context_is_read_and_not_computed(kind: str) -> None:
    some = started(filled_store(kind), kind)
    completion = some.generate([*prompt(33), *cold(prompt(33), 4), 251], max_tokens=6)
    cached = 32 if "chunks" in kind else 36
    assert completion.token_ids == cold([*prompt(33), *cold(prompt(33), 4), 251], 6)
    assert completion.usage.cached_tokens == cached
    stats = some.engine.stats()
    assert (stats.cached_tokens_from_store, stats.cached_tokens_from_memory) == (cached, 0)
    assert stats.prefilled_tokens == 37 - cached
    assert stats.lost_blocks == 0


@EVERY_KIND
def test_what_was_read_once_is_found_in_memory(kind: str) -> None:
    some = started(filled_store(kind), kind)
    some.generate(prompt(33), max_tokens=1)
    read = some.engine.stats().loaded_blocks
    assert some.generate(prompt(33), max_tokens=3).token_ids == cold(prompt(33), 3)
    stats = some.engine.stats()
    assert (stats.loaded_blocks, stats.cached_tokens_from_memory) == (read, 32)


@pytest.mark.parametrize("kind", ["pages anywhere", "copies anywhere"])
def test_a_stored_block_may_be_used_in_part(kind: str) -> None:
    some = started(filled_store(kind), kind)
    parting = [*prompt(25), 251, 252]
    completion = some.generate(parting, max_tokens=9)
    assert completion.usage.cached_tokens == 25
    assert completion.token_ids == cold(parting, 9)


def test_another_engines_contexts_are_found_only_if_they_were_computed_alike() -> None:
    store = filled_store("pages anywhere")
    assert started(store, "copies anywhere").generate(prompt(33), max_tokens=1).usage.cached_tokens == 0
    assert started(store, "pages at chunks").generate(prompt(33), max_tokens=1).usage.cached_tokens == 0
    assert started(store, "pages anywhere").generate(prompt(33), max_tokens=1).usage.cached_tokens == 32


def test_an_engine_decodes_while_another_context_is_being_read() -> None:
    some = started(filled_store())
    reading, running = some.submit(prompt(33), max_tokens=2), some.submit(prompt(3, seed=7), max_tokens=3)
    some.step(4)
    assert some.ends == [running]
    some.read()
    some.step(2)
    assert some.ends == [running, reading]


def test_a_second_sequence_joins_the_reading_of_the_first() -> None:
    some = started(filled_store())
    questions = [[*prompt(32), number] for number in (251, 252)]
    requests = [some.submit(question, max_tokens=3) for question in questions]
    some.step(3)
    some.run()
    assert some.engine.stats().loaded_blocks == 2
    assert [some.cached_tokens(request_id) for request_id in requests] == [32, 32]
    for request_id, question in zip(requests, questions, strict=True):
        assert some.completion(request_id).token_ids == cold(question, 3)


def test_two_that_continue_one_stored_tail_read_it_once() -> None:
    some = started(filled_store(tokens=20, max_tokens=1))
    questions = [[*prompt(20), number] for number in (251, 252)]
    requests = [some.submit(question, max_tokens=3) for question in questions]
    some.run()
    assert some.engine.stats().loaded_blocks == 2
    for request_id, question in zip(requests, questions, strict=True):
        assert some.cached_tokens(request_id) == 20
        assert some.completion(request_id).token_ids == cold(question, 3)


@EVERY_KIND
def test_a_request_cancelled_while_its_context_is_read_leaves_nothing_held(kind: str) -> None:
    some = started(filled_store(kind), kind)
    request_id = some.submit(prompt(33), max_tokens=1)
    some.step()
    some.cancel(request_id)
    assert some.completion(request_id).finish_reason is FinishReason.CANCELLED
    assert some.engine.stats().pool_blocks_in_use > 0  # the reading goes on
    some.read()
    assert some.engine.stats().pool_blocks_in_use == 0
    some.engine.pool.check_integrity()


def test_when_the_one_whose_reading_others_joined_is_cancelled_they_go_on() -> None:
    some = started(filled_store())
    first, second = (some.submit([*prompt(32), number], max_tokens=3) for number in (251, 252))
    some.step()
    some.cancel(first)
    some.run()
    assert some.cached_tokens(second) == 32
    assert some.completion(second).token_ids == cold([*prompt(32), 252], 3)
    assert some.engine.stats().loaded_blocks == 2


def test_those_who_wait_for_their_turn_have_their_contexts_read_meanwhile() -> None:
    some = started(filled_store(), max_num_seqs=1)
    some.submit(prompt(3, seed=7), max_tokens=5)
    waiting = some.submit(prompt(33), max_tokens=3)
    some.step()
    assert some.engine.stats().waiting == 1
    some.read()
    assert some.engine.stats().loaded_blocks == 2
    some.run()
    stats = some.engine.stats()
    assert (stats.cached_tokens_from_memory, stats.cached_tokens_from_store) == (32, 0)
    assert some.completion(waiting).token_ids == cold(prompt(33), 3)


# -- what goes wrong ---------------------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("is_missing", [True, False])
@pytest.mark.parametrize("which", [0, 1])
def test_a_context_with_a_damaged_or_missing_block_is_computed_again_behind_what_is_whole(
    kind: str, is_missing: bool, which: int
) -> None:
    some = started(filled_store(kind), kind)
    bad = [block for block in stored(some) if block.num_tokens == 16][which]
    if is_missing:
        some.store.delete([bad.hash])
    else:
        some.store.damage(bad.hash)
    completion = some.generate(prompt(33), max_tokens=4)
    assert completion.token_ids == cold(prompt(33), 4)
    whole = {0: 0, 1: 0 if kind == "copies at states" and not bad.has_state else 16}[which]
    assert completion.usage.cached_tokens == whole
    (warning,) = some.telemetry.named("cache.block.lost")
    assert (warning.level, warning.facts["block"], warning.facts["tokens"]) == ("warning", bad.hash.hex(), 16)
    stats = some.engine.stats()
    assert (stats.lost_blocks, stats.pool_blocks_in_use) == (1, 0)
    assert (stats.prompt_tokens, stats.cached_tokens_from_store + stats.cached_tokens_from_memory) == (33, whole)


def test_a_block_that_was_lost_is_saved_again_when_it_was_computed_again() -> None:
    some = started(filled_store())
    some.store.damage(stored(some)[1].hash)
    some.generate(prompt(33), max_tokens=4)
    assert on_disk(some) == [(0, 16), (16, 32), (32, 36)]
    assert started(some.store).generate(prompt(33), max_tokens=4).usage.cached_tokens == 32


def test_all_who_joined_a_reading_that_failed_wait_again_and_get_the_right_answer() -> None:
    some = started(filled_store())
    some.store.damage(stored(some)[0].hash)
    questions = [[*prompt(32), number] for number in (251, 252, 253)]
    requests = [some.submit(question, max_tokens=3) for question in questions]
    some.run()
    for request_id, question in zip(requests, questions, strict=True):
        assert some.completion(request_id).token_ids == cold(question, 3)
    assert len(some.telemetry.named("cache.block.lost")) == 1
    assert some.engine.stats().prefilled_tokens == 32


@EVERY_KIND
def test_with_a_full_store_the_engine_goes_on_and_says_so_once(kind: str) -> None:
    some = started(MemoryStore(), kind)
    some.store.full = True
    for seed in range(5):
        assert some.generate(prompt(33, seed), max_tokens=3).token_ids == cold(prompt(33, seed), 3)
    assert len(some.telemetry.named("store.not.persisting")) == 1
    assert some.generate(prompt(33, seed=4), max_tokens=3).usage.cached_tokens == 32
    stats = some.engine.stats()
    assert stats.pool_blocks_in_use == 0
    assert stats.store is not None
    assert (stats.store.store.blocks, stats.store.failed_writes > 0) == (0, True)


@EVERY_KIND
def test_what_could_not_be_saved_is_saved_when_it_is_used_again_and_there_is_room(kind: str) -> None:
    some = started(MemoryStore(), kind)
    some.store.full = True
    some.generate(prompt(33), max_tokens=1)
    assert on_disk(some) == []
    some.store.full = False
    some.generate(prompt(33), max_tokens=2)
    assert started(some.store, kind).generate(prompt(33), max_tokens=2).usage.cached_tokens == 32


def test_what_the_store_evicts_by_itself_is_no_longer_looked_for_there() -> None:
    some = started(MemoryStore(budget_bytes=4 * BLOCK_BYTES), blocks=4)
    some.generate(prompt(48), max_tokens=1)
    some.generate(prompt(48, seed=5), max_tokens=1)
    names = {block.hash for block in some.store.blocks(some.engine.context.digest)}
    assert {block.hash for block in stored(some)} == names
    assert some.generate(prompt(48), max_tokens=2).token_ids == cold(prompt(48), 2)
    assert some.engine.stats().lost_blocks == 0


@EVERY_KIND
def test_closing_saves_what_waits_to_be_saved(kind: str) -> None:
    store = MemoryStore()
    some = started(store, kind)
    some.submit(prompt(33), max_tokens=30)
    some.step(5)
    some.engine.close()
    store.reopen()
    again = started(store, kind)
    assert again.generate(prompt(33), max_tokens=3).usage.cached_tokens == 32
