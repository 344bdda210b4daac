"""The store behind its threads, on fakes: nothing is written or read before a test says so."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from stored_blocks import PAYLOAD, Reader, chain, names, record, written

from semantic.adapters.fakes import FakeClock, RecordingTelemetry
from semantic.adapters.fakes.executor import FakeExecutor
from semantic.adapters.fakes.store import MemoryStore
from semantic.application.ports.block_store import BlockToSave
from semantic.application.store_tier import MOST_BLOCKS_AT_ONCE, StoreTier
from semantic.domain.errors import BlockMissingError, StoreError, StoreFullError
from semantic.domain.identifiers import BlockHash


class NotedStore(MemoryStore):
    """Notes what it is told to do, in order. ``broken`` raises wherever it is named."""

    def __init__(self, budget_bytes: int | None = None) -> None:
        super().__init__(budget_bytes)
        self.noted: list[str] = []
        self.broken: dict[str, Exception] = {}

    def save(self, blocks: Sequence[BlockToSave]) -> tuple[BlockHash, ...]:
        self._note("save", len(blocks))
        return super().save(blocks)

    def delete(self, hashes: Iterable[BlockHash]) -> None:
        hashes = tuple(hashes)
        self._note("delete", len(hashes))
        super().delete(hashes)

    def touch(self, hashes: Iterable[BlockHash]) -> None:
        hashes = tuple(hashes)
        self._note("touch", len(hashes))
        super().touch(hashes)

    def save_agent(self, *args: Any) -> None:
        self._note("save agent", args[0].name)
        super().save_agent(*args)

    def _note(self, verb: str, what: object) -> None:
        self.noted.append(f"{verb} {what}")
        if verb in self.broken:
            raise self.broken[verb]


class Tier:
    """A tier with its parts in hand. ``told`` are the errors that callers heard of, or None where all went well."""

    def __init__(self, store: NotedStore | None = None) -> None:
        self.store = store or NotedStore()
        self.writer, self.readers = FakeExecutor(waits=True), FakeExecutor(waits=True)
        self.clock, self.telemetry = FakeClock(), RecordingTelemetry()
        self.tier = StoreTier(
            self.store, writer=self.writer, readers=self.readers, clock=self.clock, telemetry=self.telemetry
        )
        self.told: list[Exception | None] = []

    def save(self, *blocks: BlockToSave) -> None:
        for block in blocks:
            self.tier.save(block, self.told.append)

    def write(self, most: int | None = None) -> None:
        self.writer.run(most)
        self.tier.poll()

    def complaints(self) -> list[str]:
        return [event.facts["error"] for event in self.telemetry.named("store.not.persisting")]


@pytest.fixture
def some() -> Tier:
    return Tier()


A, B, C = chain([1, 2], [3, 4], [5])


# -- writing -----------------------------------------------------------------------------------------


def test_a_save_returns_at_once_and_its_caller_hears_of_it_when_it_polls(some: Tier) -> None:
    some.save(A)
    assert (some.store.noted, some.told) == ([], [])
    some.writer.run()
    assert (some.store.noted, some.told) == (["save 1"], [])
    some.tier.poll()
    assert some.told == [None]


def test_saves_that_wait_together_are_made_durable_together_but_no_more_than_eight(some: Tier) -> None:
    blocks = chain(*[[number] for number in range(MOST_BLOCKS_AT_ONCE + 2)])
    some.save(*blocks)
    some.write()
    assert some.store.noted == ["save 8", "save 2"]
    assert some.told == [None] * 10


def test_everything_is_done_in_the_order_in_which_it_was_asked_for(some: Tier) -> None:
    some.save(A, B)
    some.tier.save_agent(record("alice"), names([A, B]))
    some.save(C)
    some.tier.delete(names([A]))
    some.tier.forget_agent("default", "alice", names([B]))
    some.write()
    assert some.store.noted == ["save 2", "save agent alice", "save 1", "delete 1", "delete 1"]
    assert (some.store.stats().blocks, some.store.agents()) == (1, [])


def test_deleting_nothing_asks_for_nothing(some: Tier) -> None:
    some.tier.delete([])
    assert some.tier.stats().pending_jobs == 0


def test_uses_are_noted_before_the_next_write_so_that_it_evicts_others() -> None:
    some = Tier(NotedStore(budget_bytes=2 * PAYLOAD))
    some.save(*chain([1]), *chain([2]))
    some.write()
    some.tier.touch(names(chain([1])))
    some.save(*chain([3]))
    some.write()
    assert {block.hash for block in some.store.blocks("c" * 64)} == set(names([*chain([1]), *chain([3])]))


def test_uses_are_not_forgotten_by_a_job_that_finds_its_write_done(some: Tier) -> None:
    some.save(A, B)
    some.write(1)
    some.tier.touch(names([A]))
    some.write()
    some.save(C)
    some.write()
    assert some.store.noted == ["save 2", "touch 1", "save 1"]


def test_what_the_store_evicted_is_told_before_what_made_it() -> None:
    some = Tier(NotedStore(budget_bytes=PAYLOAD))
    heard: list[object] = []
    some.tier.on_evicted = lambda hashes: heard.extend(hashes)
    some.save(*chain([1]))
    some.write()
    some.tier.save(chain([2])[0], lambda error: heard.append("saved"))
    some.write()
    assert heard == [*names(chain([1])), "saved"]


def test_counts_say_how_far_writing_is_behind(some: Tier) -> None:
    some.save(A)
    some.clock.advance(3.0)
    some.save(B)
    stats = some.tier.stats()
    assert (stats.pending_jobs, stats.pending_bytes, stats.behind_s) == (2, 2 * PAYLOAD, 3.0)
    some.write()
    stats = some.tier.stats()
    assert (stats.pending_jobs, stats.pending_bytes, stats.behind_s, stats.store.blocks) == (0, 0, 0.0, 2)


# -- failing -----------------------------------------------------------------------------------------


def test_a_write_that_fails_is_told_to_its_caller_and_reported_once_until_a_block_is_saved_again(some: Tier) -> None:
    some.store.full = True
    for block in (A, B):
        some.save(block)
        some.write()
    assert [type(error) for error in some.told] == [StoreFullError, StoreFullError]
    assert some.complaints() == ["StoreFullError: the store is full on purpose"]
    assert some.telemetry.named("store.not.persisting")[0].level == "warning"
    assert some.tier.stats().failed_writes == 2
    some.store.full = False
    some.save(A)
    some.write()
    some.store.full = True
    some.save(B)
    some.write()
    assert len(some.complaints()) == 2


def test_that_a_block_can_be_erased_from_a_full_store_is_no_reason_to_complain_again(some: Tier) -> None:
    some.store.full = True
    for block in (A, B, C):
        some.save(block)
        some.tier.delete(names([block]))
        some.write()
    assert len(some.complaints()) == 1


def test_a_store_that_fails_in_a_way_nobody_thought_of_is_an_error_and_the_writer_goes_on(some: Tier) -> None:
    some.store.broken["save"] = ZeroDivisionError("oh")
    some.save(A)
    some.write()
    assert some.telemetry.named("store.not.persisting")[0].level == "error"
    some.store.broken.clear()
    some.save(A)
    some.write()
    assert [type(error) for error in some.told] == [ZeroDivisionError, type(None)]


def test_a_superseded_block_is_erased_only_if_the_one_that_supersedes_it_was_saved(some: Tier) -> None:
    some.save(A)
    some.write()
    some.store.full = True
    write = some.tier.save(B, some.told.append)
    some.tier.delete(names([A]), unless_failed=write)
    some.write()
    assert {block.hash for block in some.store.blocks("c" * 64)} == set(names([A]))
    some.store.full = False
    write = some.tier.save(B, some.told.append)
    some.tier.delete(names([A]), unless_failed=write)
    some.write()
    assert {block.hash for block in some.store.blocks("c" * 64)} == set(names([B]))


# -- flushing and closing ----------------------------------------------------------------------------


def test_a_flush_ends_when_all_that_was_asked_before_is_done(some: Tier) -> None:
    some.save(A)
    flushed = some.tier.flush()
    some.save(B)
    some.write(1)
    assert not flushed.done()
    some.write(1)
    assert flushed.result(0) is None
    assert some.store.noted == ["save 1"]


def test_a_flush_raises_what_failed_since_the_last_one(some: Tier) -> None:
    some.store.full = True
    some.save(A)
    failed, after = some.tier.flush(), some.tier.flush()
    some.write()
    with pytest.raises(StoreFullError):
        failed.result(0)
    assert after.result(0) is None


def test_a_flush_is_answered_even_if_noting_uses_fails(some: Tier) -> None:
    some.store.broken["touch"] = StoreError("the index is gone")
    some.tier.touch(names([A]))
    flushed = some.tier.flush()
    some.write()
    assert flushed.done()


def test_closing_does_what_was_asked_and_may_be_done_twice(some: Tier) -> None:
    some.save(A)
    some.tier.touch(names([A]))
    some.tier.close()
    some.tier.close()
    some.tier.poll()
    assert some.told == [None]
    with pytest.raises(StoreError, match="closed"):
        some.store.stats()
    assert some.tier.stats().store.blocks == 1


# -- reading -----------------------------------------------------------------------------------------


def test_a_read_does_not_wait_for_the_writes_and_is_heard_of_by_polling(some: Tier) -> None:
    some.save(A)
    some.write()
    some.save(B)
    reader = Reader()
    some.tier.load(names([A])[0], reader, some.told.append)
    some.readers.run()
    assert some.told == [None]
    some.tier.poll()
    assert some.told == [None, None]
    assert {name: bytes(content) for name, content in reader.content.items()} == written(A)


def test_a_read_of_what_is_not_there_is_told_to_its_caller(some: Tier) -> None:
    some.tier.load(names([A])[0], Reader(), some.told.append)
    some.readers.run()
    some.tier.poll()
    assert [type(error) for error in some.told] == [BlockMissingError]
    assert some.complaints() == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda tier: tier.save(A, lambda error: None),
        lambda tier: tier.load(names([A])[0], Reader(), lambda error: None),
        lambda tier: tier.flush(),
    ],
)
def test_whoever_waits_is_woken_when_something_has_ended(some: Tier, ask: Callable[[StoreTier], object]) -> None:
    woken: list[int] = []
    some.tier.wake = lambda: woken.append(1)
    ask(some.tier)
    assert woken == []
    some.writer.run()
    some.readers.run()
    assert woken == [1]


def test_waiting_ends_with_the_time_or_with_the_first_thing_that_has_ended(some: Tier) -> None:
    some.tier.wait(0.0)
    some.save(A, B)
    some.writer.run()
    some.tier.wait(60.0)
    assert some.told == [None, None]


def test_where_not_all_fit_the_store_as_many_are_saved_as_do() -> None:
    some = Tier(NotedStore(budget_bytes=2 * PAYLOAD))
    some.save(*chain([1], [2], [3]))  # what a block stands on is not evicted for it
    some.writer.run()
    some.tier.poll()
    assert [type(error) for error in some.told] == [type(None), type(None), StoreFullError]
    assert some.store.stats().blocks == 2
    assert [event.name for event in some.telemetry.events] == ["store.not.persisting"]
