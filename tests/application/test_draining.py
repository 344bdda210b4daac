"""``drain``: what was promised is done and durable, and nothing new is taken."""

import threading
from collections.abc import Callable

import pytest
from gating import SOON, Gate

from semantic.adapters.fakes import FakeExecutor, FakeModel, MemoryStore, fake_engine, fake_tier
from semantic.application.engine import Engine
from semantic.domain.errors import EngineClosedError, EngineDownError, EngineDrainingError, StoreError
from semantic.domain.value_objects import FinishReason


def draining(engine: Engine, timeout: float | None = None) -> tuple[threading.Thread, list[Exception | None]]:
    """Drain on another thread; the list is what came of it."""
    outcome: list[Exception | None] = []

    def drain() -> None:
        try:
            engine.drain(timeout)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=drain)
    thread.start()
    return thread, outcome


def wait_until(condition: Callable[[], bool]) -> None:
    given_up = threading.Event()
    timer = threading.Timer(SOON, given_up.set)
    timer.start()
    while not condition():
        assert not given_up.is_set(), "it never came to that"
    timer.cancel()


def is_refusing(engine: Engine) -> bool:
    try:
        engine.submit("late", max_tokens=1)
    except EngineDrainingError:
        return True
    return False


def test_it_returns_when_every_request_that_was_taken_has_ended(gate: Gate) -> None:
    with fake_engine(model=FakeModel(choose=gate), max_num_seqs=1) as engine:
        running, waiting = engine.submit("a", max_tokens=3), engine.submit("b", max_tokens=2)
        gate.await_reached()
        thread, outcome = draining(engine)
        wait_until(lambda: is_refusing(engine))
        assert outcome == []
        gate.open()
        thread.join(SOON)
        assert outcome == [None]
        assert (running.is_done, waiting.is_done) == (True, True)
        assert [len(request.result().token_ids) for request in (running, waiting)] == [3, 2]
        assert engine.stats().pool_blocks_in_use == 0


def test_an_idle_engine_has_drained_at_once_and_drains_again() -> None:
    with fake_engine() as engine:
        engine.drain()
        engine.drain(timeout=SOON)


def test_a_drained_engine_refuses_every_new_request_by_name_and_answers_the_rest() -> None:
    with fake_engine() as engine:
        alice = engine.agent("alice")
        engine.drain()
        for verb in (
            lambda: engine.generate("a"),
            lambda: engine.stream("a"),
            lambda: engine.batch_generate(["a"]),
            lambda: alice.chat("Hello"),
        ):
            with pytest.raises(EngineDrainingError, match="takes no new request"):
                verb()
        assert alice.fork("bob").name == "bob"
        engine.flush()
        assert engine.stats().running == 0


def test_a_drain_that_takes_too_long_is_a_timeout_and_goes_on(gate: Gate) -> None:
    with fake_engine(model=FakeModel(choose=gate)) as engine:
        request = engine.submit("a", max_tokens=2)
        gate.await_reached()
        with pytest.raises(TimeoutError, match=r"not drained within 0\.01 s; it goes on"):
            engine.drain(timeout=0.01)
        with pytest.raises(EngineDrainingError):
            engine.submit("b")
        gate.open()
        engine.drain(SOON)
        assert request.result().finish_reason is FinishReason.LENGTH


def test_a_cancelled_request_does_not_hold_a_drain_up(gate: Gate) -> None:
    with fake_engine(model=FakeModel(choose=gate)) as engine:
        request = engine.submit("a", max_tokens=1000)
        gate.await_reached()
        thread, outcome = draining(engine)
        wait_until(lambda: is_refusing(engine))
        request.cancel()
        gate.open()
        thread.join(SOON)
        assert outcome == [None]


def test_a_request_that_fails_does_not_hold_a_drain_up() -> None:
    with fake_engine(model=FakeModel(fail_on=200)) as engine:
        request = engine.submit([1, 200, 1], max_tokens=3)
        engine.drain(SOON)
        with pytest.raises(RuntimeError, match="told to fail"):
            request.result()


def test_the_turn_of_an_agent_that_has_begun_is_committed_and_durable_after_a_drain(gate: Gate) -> None:
    store = MemoryStore()
    with fake_engine(model=FakeModel(choose=gate), tier=fake_tier(store)) as engine:
        alice = engine.agent("alice")
        turn = alice.stream("Hello", max_tokens=2)
        gate.await_reached()
        thread, outcome = draining(engine)
        wait_until(lambda: is_refusing(engine))
        gate.open()
        thread.join(SOON)
        assert outcome == [None]
        assert [entry["role"] for entry in alice.history] == ["user", "assistant"]
        assert [stored.record for stored in store.agents()] == [alice.record]
        assert len(list(turn)) == 2


def test_a_turn_that_waits_for_the_turn_before_is_refused_and_the_agent_stands_behind_that_one(gate: Gate) -> None:
    with fake_engine(model=FakeModel(choose=gate)) as engine:
        alice = engine.agent("alice")
        first = alice.stream("Hello", max_tokens=2)
        gate.await_reached()
        refused: list[Exception] = []

        def second() -> None:
            try:
                alice.chat("And?", max_tokens=2)
            except Exception as error:  # noqa: BLE001 - looked at by the test
                refused.append(error)

        waiting = threading.Thread(target=second)
        waiting.start()
        thread, outcome = draining(engine)
        wait_until(lambda: is_refusing(engine))
        gate.open()
        waiting.join(SOON)
        thread.join(SOON)
        assert outcome == [None]
        assert [type(error) for error in refused] == [EngineDrainingError]
        assert len(alice.history) == 2
        assert len(list(first)) == 2


def test_a_drain_raises_what_could_not_be_made_durable() -> None:
    store = MemoryStore()

    def save_agent(*_: object) -> None:
        raise StoreError("the disk is gone")

    store.save_agent = save_agent  # type: ignore[method-assign]
    with fake_engine(tier=fake_tier(store)) as engine:
        engine.agent("alice").chat("Hello", max_tokens=1)
        with pytest.raises(StoreError, match="the disk is gone"):
            engine.drain(SOON)


def test_a_drain_waits_for_the_disk() -> None:
    writer = FakeExecutor(waits=True)
    with fake_engine(tier=fake_tier(MemoryStore(), writer=writer)) as engine:
        engine.generate("a", max_tokens=1)
        thread, outcome = draining(engine)
        wait_until(lambda: is_refusing(engine))
        assert outcome == []
        while thread.is_alive():
            writer.run()
        assert outcome == [None]


def test_closing_ends_a_drain_whose_requests_it_cancels(gate: Gate) -> None:
    engine = fake_engine(model=FakeModel(choose=gate))
    request = engine.submit("a", max_tokens=1000)
    gate.await_reached()
    thread, outcome = draining(engine)
    wait_until(lambda: is_refusing(engine))
    closing = threading.Thread(target=engine.close)
    closing.start()
    gate.open()
    for one in (closing, thread):
        one.join(SOON)
    assert [type(error) for error in outcome] in ([EngineClosedError], [None])
    assert request.result().finish_reason in (FinishReason.CANCELLED, FinishReason.LENGTH)


def test_draining_a_closed_engine_is_refused() -> None:
    engine = fake_engine()
    engine.close()
    with pytest.raises(EngineClosedError, match="closed; open a new one"):
        engine.drain()


def test_a_drain_of_an_engine_that_goes_down_says_so(gate: Gate) -> None:
    model = FakeModel(choose=gate)

    def close(cache: object) -> None:
        raise OSError("the memory is on fire")

    model.memory.close = close
    engine = fake_engine(model=model)
    engine.submit("a", max_tokens=1)
    gate.await_reached()
    thread, outcome = draining(engine)
    wait_until(lambda: is_refusing(engine))
    gate.open()
    thread.join(SOON)
    assert [type(error) for error in outcome] == [EngineDownError]
