"""The check of an engine's books finds each way in which they can disagree, and nothing where they agree."""

from collections.abc import Callable
from typing import Any

import pytest
from driving import DrivenWithStore, driven_with_store

from semantic.adapters.fakes import fake_engine
from semantic.adapters.fakes.store import MemoryStore
from semantic.application.integrity import check_integrity
from semantic.domain.errors import EngineIntegrityError, PoolIntegrityError

LONG = "a context of three blocks, a part of one"


@pytest.fixture
def idle() -> DrivenWithStore:
    """An engine that has answered, and whose store has all of it."""
    driven = driven_with_store(MemoryStore())
    driven.generate(LONG, max_tokens=4)
    driven.do_io()
    return driven


def some_block(driven: DrivenWithStore) -> Any:
    return next(block for block in driven.engine.cache.index if block.num_tokens == 16)


def test_an_idle_engine_s_books_balance(idle: DrivenWithStore) -> None:
    check_integrity(idle.engine)


def test_so_do_they_while_it_computes_and_while_it_writes() -> None:
    driven = driven_with_store(MemoryStore())
    driven.submit(LONG, max_tokens=4)
    while driven.engine.has_work:
        driven.step()
        check_integrity(driven.engine)
    for _ in range(8):
        driven.write(1)
        check_integrity(driven.engine)


def test_the_engine_s_face_has_the_check() -> None:
    with fake_engine() as engine:
        engine.generate(LONG, max_tokens=4)
        engine.check_integrity()
        engine._owner.engine.pool.allocate(1)
        with pytest.raises(EngineIntegrityError, match="1 blocks are held, and nothing is running"):
            engine.check_integrity()


def forget_in_store(driven: DrivenWithStore) -> None:
    driven.engine.tier.store.delete([some_block(driven).hash])  # type: ignore[union-attr]


def forget_in_index(driven: DrivenWithStore) -> None:
    driven.engine.cache.transfer.drop(some_block(driven))
    driven.engine.cache.index.remove(some_block(driven))


def unsave(driven: DrivenWithStore) -> None:
    block = some_block(driven)
    driven.engine.cache.transfer.drop(block)
    block.stored = False


def free_behind_its_back(driven: DrivenWithStore) -> None:
    driven.engine.pool.forget([some_block(driven).block_id])


def lose_from_memory_s_list(driven: DrivenWithStore) -> None:
    block = some_block(driven)
    driven.engine.cache.index._residents[block.block_id].pop(block.hash)


def change_tokens(driven: DrivenWithStore) -> None:
    block = some_block(driven)
    block.tokens = bytes(reversed(block.tokens))


def keep_memory_of_a_free_block(driven: DrivenWithStore) -> None:
    memory = driven.engine.model.memory
    for number in range(3):
        memory._block(number)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (forget_in_store, "is said to be in the store, and is not"),
        (forget_in_index, "is in the store, and nothing can find it"),
        (unsave, "is indexed and neither in memory nor in the store"),
        (free_behind_its_back, "which is free"),
        (lose_from_memory_s_list, "is not among those in memory"),
        (change_tokens, "has other tokens than its name"),
        (keep_memory_of_a_free_block, "bytes, and blocks account for"),
    ],
)
def test_it_finds(idle: DrivenWithStore, break_it: Callable[[DrivenWithStore], None], said: str) -> None:
    break_it(idle)
    with pytest.raises(EngineIntegrityError, match=said):
        check_integrity(idle.engine)


def test_it_finds_a_pool_whose_books_do_not_balance(idle: DrivenWithStore) -> None:
    idle.engine.pool._weight_in_use += 1
    with pytest.raises(PoolIntegrityError):
        check_integrity(idle.engine)


def test_it_does_not_ask_the_store_while_something_is_on_its_way_there(idle: DrivenWithStore) -> None:
    idle.submit("something else, as long as the other one", max_tokens=2)
    idle.step(8)
    assert not idle.engine.has_work
    forget_in_store(idle)
    check_integrity(idle.engine)
    idle.do_io()
    with pytest.raises(EngineIntegrityError, match="is said to be in the store"):
        check_integrity(idle.engine)
