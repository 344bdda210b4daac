"""Priorities, deadlines and the bound on the queue, as callers meet them."""

import pytest
from gating import Gate

from semantic.adapters.fakes import FakeClock, FakeModel, FakeTokenizer, fake_engine
from semantic.adapters.fakes.tokenizer import FakeDetokenizer
from semantic.domain.errors import DeadlineExceededError, InvalidRequestError, QueueFullError


def test_priority_and_deadline_are_keywords_of_every_generating_method() -> None:
    with fake_engine() as engine:
        assert engine.generate("abc", max_tokens=2, priority="background", deadline_s=60).usage.completion_tokens == 2
        assert len(engine.batch_generate(["abc"], max_tokens=2, priority="background")) == 1
        assert engine.agent("alice").chat("Hello", max_tokens=2, priority="background").usage.completion_tokens == 2
        with pytest.raises(InvalidRequestError, match="deadline_s must be a positive number"):
            engine.generate("abc", deadline_s=-1)
        with pytest.raises(InvalidRequestError, match="priority must be one of interactive, background"):
            engine.agent("alice").chat("Hello", priority="high")


def test_a_late_request_raises_for_who_waits_for_it() -> None:
    with fake_engine(clock=FakeClock(tick=1.0)) as engine, pytest.raises(DeadlineExceededError) as caught:
        engine.generate("abc", max_tokens=1000, deadline_s=20)
    assert len(caught.value.completion.token_ids) < 1000


def test_an_agent_whose_turn_came_too_late_stands_where_it_stood_before() -> None:
    with fake_engine(clock=FakeClock(tick=1.0)) as engine:
        alice = engine.agent("alice")
        with pytest.raises(DeadlineExceededError):
            alice.chat("Hello", max_tokens=1000, deadline_s=20)
        assert alice.history == []
        alice.chat("Hello", max_tokens=3)
        assert [entry["role"] for entry in alice.history] == ["user", "assistant"]


def test_a_full_queue_is_refused_where_it_is_asked_and_those_in_it_are_served() -> None:
    gate = Gate()
    with fake_engine(model=FakeModel(choose=gate), max_num_seqs=1, max_waiting=2) as engine:
        requests = [engine.submit("abc", max_tokens=2)]
        gate.await_reached()
        requests += [engine.submit("abc", max_tokens=2), engine.submit("abc", max_tokens=2)]
        with pytest.raises(QueueFullError, match="2 requests are waiting and the queue takes 2"):
            engine.submit("abc", max_tokens=2)
        gate.open()
        assert [len(request.result().token_ids) for request in requests] == [2, 2, 2]
        assert len(engine.generate("abc", max_tokens=2).token_ids) == 2


def test_a_batch_that_does_not_fit_the_queue_is_refused_whole() -> None:
    gate = Gate()
    with fake_engine(model=FakeModel(choose=gate), max_num_seqs=1, max_waiting=2) as engine:
        running = engine.submit("abc", max_tokens=2)
        gate.await_reached()
        with pytest.raises(QueueFullError):
            engine.batch_generate(["a", "b", "c"], max_tokens=2)
        gate.open()
        running.result()
        engine.drain()
        assert engine.stats().finished_requests == 3  # two of the batch were cancelled while they waited


class Choking(FakeTokenizer):
    """Raises where a text ends."""

    def detokenizer(self) -> FakeDetokenizer:
        class Detokenizer(FakeDetokenizer):
            def finish(self) -> str:
                raise RuntimeError("the end is too much")

        return Detokenizer()


def test_a_tokenizer_that_chokes_on_the_end_of_a_text_ends_no_other_request() -> None:
    gate = Gate()
    with fake_engine(model=FakeModel(choose=gate), tokenizer=Choking(), clock=FakeClock(tick=0.5)) as engine:
        cancelled = engine.submit("abc", max_tokens=100)
        gate.await_reached()
        cancelled.cancel()
        late = engine.submit("abd", max_tokens=100, deadline_s=10)
        gate.open()
        for request in (cancelled, late):
            with pytest.raises(RuntimeError, match="the end is too much"):
                request.result()
        assert engine.stats().running == 0
        engine.check_integrity()
