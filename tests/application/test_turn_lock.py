"""Turns one after the other, in the order they were asked for."""

import threading

import pytest
from gating import SOON

from semantic.application.turn_lock import TurnLock
from semantic.domain.errors import AgentBusyError


def gone() -> None:
    raise RuntimeError("Event loop is closed")


def test_turns_begin_in_the_order_they_were_asked_for() -> None:
    lock, begun = TurnLock("alice"), []
    first = lock.ask(lambda: begun.append("first"))
    lock.ask(lambda: begun.append("second"))
    lock.ask(lambda: begun.append("third"))
    assert (first.number, begun) == (1, ["first"])
    lock.give_back()
    assert begun == ["first", "second"]
    lock.give_back()
    assert begun == ["first", "second", "third"]


def test_who_leaves_the_line_gets_no_turn() -> None:
    lock, begun = TurnLock("alice"), []
    lock.take()
    second = lock.ask(lambda: begun.append("second"))
    lock.ask(lambda: begun.append("third"))
    lock.withdraw(second)
    lock.give_back()
    assert begun == ["third"]


def test_who_leaves_with_a_turn_that_has_begun_gives_it_back() -> None:
    lock, begun = TurnLock("alice"), []
    first = lock.ask(lambda: None)
    lock.ask(lambda: begun.append("second"))
    lock.withdraw(first)
    assert begun == ["second"]


def test_a_turn_that_nobody_is_there_to_take_goes_to_the_next() -> None:
    lock, begun = TurnLock("alice"), []
    lock.take()
    lost = lock.ask(gone)
    lock.ask(lambda: begun.append("third"))
    lock.give_back()
    assert (lost.number, begun) == (None, ["third"])


def test_a_thread_waits_for_the_turn_of_another() -> None:
    lock, numbers = TurnLock("alice"), []
    numbers.append(lock.take())
    other = threading.Thread(target=lambda: numbers.append(lock.take()))
    other.start()
    lock.give_back()
    other.join(SOON)
    assert numbers == [1, 2]


def test_a_thread_that_would_wait_for_itself_is_told_so_and_leaves_the_line() -> None:
    lock, begun = TurnLock("alice"), []
    lock.take()
    with pytest.raises(AgentBusyError, match="'alice' is in the middle of a turn that this thread began"):
        lock.take()
    lock.ask(lambda: begun.append("next"))
    lock.give_back()
    assert begun == ["next"]


def test_a_thread_that_has_let_go_of_its_turn_waits_for_it_to_end() -> None:
    lock = TurnLock("alice")
    lock.let_go(lock.take())
    threading.Timer(0.3, lock.give_back).start()
    assert lock.take() == 2
