"""Agents on fakes: who waits for whom, and turns that come to nothing."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from gating import SOON, Gate
from talking import Desk, chat_prompt, is_cold

from semantic.adapters.fakes import FakeModel, FakeTokenizer, fake_engine, fake_next_token
from semantic.application.engine import Engine
from semantic.domain.errors import (
    AgentBusyError,
    EmptyPromptError,
    EngineClosedError,
    EngineDownError,
    InvalidRequestError,
    PromptTooLongError,
)
from semantic.domain.value_objects import FinishReason

# -- one turn at a time ------------------------------------------------------------------------------


def test_turns_of_one_agent_from_many_threads_come_one_after_the_other(engine: Engine) -> None:
    alice = engine.agent("alice")
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda number: alice.chat(f"Message {number}", max_tokens=3), range(24)))
    assert [entry["role"] for entry in alice.history] == ["user", "assistant"] * 24
    told = [(entry["role"], entry["content"]) for entry in alice.history]
    for done in replies:
        at = next(i for i, (_, content) in enumerate(told) if content == done.text and i % 2)
        assert is_cold(done, chat_prompt(*told[:at]))


def test_turns_of_different_agents_share_decode_steps() -> None:
    gate = Gate()
    model = FakeModel(choose=gate)
    with fake_engine(model=model) as engine:
        first = engine.agent("alice").stream("Hi", max_tokens=20)
        gate.await_reached()
        others = [engine.agent(name).stream("Hello", max_tokens=2) for name in ("bob", "carol")]
        gate.open()
        for stream in (first, *others):
            assert list(stream)
    assert "decode 3" in model.forwards


def test_the_thread_that_reads_a_stream_cannot_wait_for_itself() -> None:
    gate = Gate()
    with fake_engine(model=FakeModel(choose=gate)) as engine:
        alice = engine.agent("alice")
        stream = alice.stream("Hi", max_tokens=900)
        for verb in (lambda: alice.chat("Me too"), lambda: alice.fork("bob"), alice.forget, lambda: alice.rewind(0)):
            with pytest.raises(AgentBusyError, match="'alice' is in the middle of a turn that this thread began"):
                verb()
        del stream
        gate.open()
        assert alice.chat("Now", max_tokens=2).finish_reason is FinishReason.LENGTH
        assert len(alice.history) == 2


def test_another_thread_waits_for_a_stream_to_end() -> None:
    gate = Gate()
    with fake_engine(model=FakeModel(choose=gate)) as engine, ThreadPoolExecutor(1) as threads:
        alice = engine.agent("alice")
        stream = alice.stream("Hi", max_tokens=3)
        gate.await_reached()
        waiting = threads.submit(alice.chat, "Me too", max_tokens=2)
        gate.open()
        assert len(list(stream)) == 3
        assert waiting.result(SOON).usage.cached_tokens > 0
        assert len(alice.history) == 4


# -- turns that come to nothing ----------------------------------------------------------------------


def test_leaving_a_stream_leaves_the_agent_where_it_stood_and_its_thread_may_ask_again_at_once(desk: Desk) -> None:
    gate, is_gated = Gate(), threading.Event()

    def choose(token_ids: Sequence[int]) -> int:
        return gate(token_ids) if is_gated.is_set() else fake_next_token(token_ids)

    model = desk.make()
    model._choose = choose
    with desk.open(model=model) as engine:
        alice = engine.agent("alice")
        alice.chat("Hi", max_tokens=5)
        before = alice.record
        is_gated.set()
        stream = alice.stream("Tell me all", max_tokens=900)
        gate.await_reached()
        del stream
        threading.Timer(0.5, lambda: (is_gated.clear(), gate.open())).start()  # longer than a lock waits at a time
        done = alice.chat("Well?", max_tokens=2)
        assert alice.record.history[:2] == before.history
        assert len(alice.history) == 4
        assert is_cold(done, chat_prompt(("user", "Hi"), ("assistant", before.history[1].content), ("user", "Well?")))
        assert done.usage.cached_tokens >= len(before.token_ids) - 1


def test_a_stream_that_was_dropped_before_it_began_is_a_turn_that_never_was(engine: Engine) -> None:
    alice = engine.agent("alice")
    stream = alice.stream("Hi", max_tokens=900)
    del stream
    alice.chat("Hello", max_tokens=2)
    assert [entry["content"] for entry in alice.history[:1]] == ["Hello"]
    assert len(alice.history) == 2


def test_a_failed_turn_leaves_the_agent_where_it_stood(desk: Desk) -> None:
    model = desk.make()
    model._fail_on = FakeTokenizer().encode("#")[0]
    with desk.open(model=model) as engine:
        alice = engine.agent("alice")
        alice.chat("A question of some length", max_tokens=5)
        before = alice.record
        with pytest.raises(RuntimeError, match="told to fail"):
            alice.chat("Here is one: #", max_tokens=5)
        assert alice.record == before
        assert alice.chat("Go on", max_tokens=5).usage.cached_tokens >= len(before.token_ids) - 1
        assert desk.store.agents()[0].record.turns == 2


def test_a_turn_that_is_refused_leaves_the_agent_free(engine: Engine) -> None:
    alice = engine.agent("alice")
    for sampling in ({"max_tokens": 0}, {"temperature": 1}, {"temp": -1.0}):
        with pytest.raises(InvalidRequestError):
            alice.chat("Hi", **sampling)  # type: ignore[arg-type]
    with pytest.raises(PromptTooLongError):
        alice.chat("x" * 5000)
    with pytest.raises(EmptyPromptError):
        engine.agent("bob").generate("")
    assert alice.history == []
    assert len(alice.chat("Hi", max_tokens=2).token_ids) == 2


def test_a_closed_engine_refuses_every_verb_that_needs_it_and_still_tells_what_was() -> None:
    engine = fake_engine()
    alice = engine.agent("alice")
    alice.chat("Hi", max_tokens=2)
    engine.close()
    verbs = [
        lambda: alice.chat("Hi"),
        lambda: alice.stream("Hi"),
        lambda: alice.append("Hi", role="user"),
        lambda: alice.fork("bob"),
        lambda: alice.checkpoint("here"),
        lambda: alice.rewind(0),
        lambda: alice.export("file"),
        alice.pin,
        alice.unpin,
        alice.forget,
        lambda: engine.agent("alice"),
        lambda: engine.agent("bob"),
        lambda: engine.import_agent("file"),
    ]
    for verb in verbs:
        with pytest.raises(EngineClosedError):
            verb()
    assert len(alice.history) == 2
    assert alice.checkpoints == ()
    assert engine.agents() == [alice]


def test_closing_cancels_a_turn_that_goes_on(desk: Desk) -> None:
    engine = desk.open()
    stream = engine.agent("alice").stream("Hi", max_tokens=900)
    next(stream)
    engine.close()
    assert [delta.finish_reason for delta in stream][-1] is FinishReason.CANCELLED
    with desk.open() as again:
        assert again.agent("alice").history == []
        assert again.agent("alice").chat("Hi", max_tokens=2).finish_reason is FinishReason.LENGTH


def test_an_engine_that_goes_down_frees_whoever_waits_for_a_turn() -> None:
    gate = Gate()
    model = FakeModel(choose=gate)

    def close(cache: object) -> None:
        raise OSError("the memory is on fire")

    model.memory.close = close
    engine = fake_engine(model=model)
    alice = engine.agent("alice")
    with ThreadPoolExecutor(2) as threads:
        turns = [threads.submit(alice.chat, "Hi", max_tokens=1) for _ in range(2)]
        gate.await_reached()
        gate.open()
        for turn in turns:
            with pytest.raises(EngineDownError):
                turn.result(SOON)
    assert alice.history == []
    engine.close()
