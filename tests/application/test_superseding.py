"""A longer version of a block takes the place of shorter ones, and never before it is as safe."""

from driving import cold
from storing import on_disk, prompt, started, stored

from semantic.adapters.fakes.store import MemoryStore
from semantic.application.integrity import check_integrity
from semantic.domain.value_objects import pack_tokens, unpack_tokens


def test_on_disk_a_shorter_tail_is_superseded_only_after_the_longer_one_was_saved() -> None:
    some = started(MemoryStore())
    turn = some.generate(prompt(5), max_tokens=4)
    assert on_disk(some) == [(0, 8)]
    some.submit([*prompt(5), *turn.token_ids, 251], max_tokens=1)
    some.step(2)
    assert not some.engine.has_work
    assert on_disk(some) == [(0, 8)]
    some.write(1)
    assert on_disk(some) == [(0, 8), (0, 10)]
    some.write()
    assert on_disk(some) == [(0, 10)]


def test_a_tail_stays_on_disk_if_the_longer_one_could_not_be_saved() -> None:
    some = started(MemoryStore())
    turn = some.generate(prompt(5), max_tokens=4)
    some.store.full = True
    some.generate([*prompt(5), *turn.token_ids, 251], max_tokens=1)
    assert on_disk(some) == [(0, 8)]
    some.store.full = False
    again = started(some.store)
    assert again.generate([*prompt(5), *turn.token_ids, 251], max_tokens=1).usage.cached_tokens == 8


def test_a_tail_stays_in_memory_while_it_is_being_saved_even_if_a_longer_one_is_there() -> None:
    some = started(MemoryStore())
    some.submit(prompt(5), max_tokens=4)
    while some.engine.has_work:
        some.step()
    (tail,) = some.engine.cache.index
    some.submit([*prompt(5), *cold(prompt(5), 4), 251, 252], max_tokens=3)
    some.step()
    assert (len(some.engine.cache.index), tail.is_resident, tail.stored) == (2, True, False)
    some.run()
    assert on_disk(some) == [(0, 13)]


def test_a_tail_that_an_agent_refers_to_stays_on_disk() -> None:
    some = started(MemoryStore())
    turn = some.generate(prompt(5), max_tokens=4)
    some.engine.cache.references.replace("alice", [block.hash for block in stored(some)])
    some.generate([*prompt(5), *turn.token_ids, 251], owner="bob", max_tokens=1)
    assert on_disk(some) == [(0, 8), (0, 10)]


def test_a_shorter_version_goes_once_the_longer_one_is_saved_and_stays_if_it_never_is() -> None:
    some = started(MemoryStore(), blocks=3)
    first = some.generate(prompt(5), max_tokens=2)
    context = [*prompt(5), *first.token_ids]
    some.store.full = True
    some.generate([*context, 7, 8], max_tokens=2)
    check_integrity(some.engine)
    some.generate(
        prompt(40, seed=9), max_tokens=4
    )  # takes the memory of the longer one, which the disk had no room for
    again = some.submit([*context, 7], max_tokens=1)
    some.run()
    assert some.cached_tokens(again) == 6  # all of the first that was computed, from the store
    some.store.full = False
    some.generate([*context, 7, 8], max_tokens=2)
    check_integrity(some.engine)
    assert [block.num_tokens for block in stored(some) if block.tokens[:4] == pack_tokens(prompt(1))] == [10]


def test_an_engine_that_closes_while_a_longer_version_is_being_saved_erases_the_shorter_one() -> None:
    some = started(MemoryStore())
    first = some.generate(prompt(5), max_tokens=2)
    request = some.submit([*prompt(5), *first.token_ids, 7, 8], max_tokens=2)
    while request not in some.ends:
        some.step()
    some.engine.close()  # before a write was done
    some.store.reopen()
    assert [len(unpack_tokens(block.tokens)) for block in some.store.blocks(some.engine.context.digest)] == [10]
