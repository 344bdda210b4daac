"""Requests by their ids, listeners, consumers that fail, and any number of threads at once."""

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from gating import SOON, Gate

from semantic.adapters.fakes import FakeModel, RecordingTelemetry, fake_engine, fake_next_token
from semantic.application.engine import Engine
from semantic.domain.errors import EngineClosedError, RequestFinishedError, UnknownRequestError
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import FinishReason

THREADS, ROUNDS = 32, 12


# -- ids ---------------------------------------------------------------------------------------------


def test_requests_are_numbered_in_order_of_submission_and_the_log_names_them_so() -> None:
    telemetry = RecordingTelemetry()
    with fake_engine(telemetry=telemetry) as engine:
        requests = [engine.submit("a", max_tokens=1) for _ in range(3)]
        for request in requests:
            request.result(SOON)
    assert [request.id for request in requests] == [0, 1, 2]
    assert sorted(event.facts["request_id"] for event in telemetry.named("request.finished")) == [0, 1, 2]


def test_a_request_can_be_cancelled_by_its_id(gate: Gate) -> None:
    with fake_engine(model=FakeModel(choose=gate)) as engine:
        request = engine.submit("a", max_tokens=1000)
        gate.await_reached()
        engine.cancel(request.id)
        gate.open()
        assert request.result(SOON).finish_reason is FinishReason.CANCELLED
        assert engine.stats().pool_blocks_in_use == 0


def test_cancelling_a_finished_request_by_its_id_says_that_it_is_over(engine: Engine) -> None:
    request = engine.submit("a", max_tokens=2)
    engine.drain(SOON)
    with pytest.raises(RequestFinishedError, match="request 0 is over"):
        engine.cancel(request.id)
    assert request.result().finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("request_id", [1, -1, "0", None, [0]])
def test_cancelling_an_unknown_request_says_where_ids_come_from(engine: Engine, request_id: RequestId) -> None:
    engine.generate("a", max_tokens=1)
    with pytest.raises(UnknownRequestError, match=r"Request\.id") as caught:
        engine.cancel(request_id)
    assert not isinstance(caught.value, RequestFinishedError)
    assert engine.generate("a", max_tokens=1).finish_reason is FinishReason.LENGTH


def test_cancelling_by_id_after_close_is_refused() -> None:
    engine = fake_engine()
    engine.generate("a", max_tokens=1)
    engine.close()
    with pytest.raises(EngineClosedError):
        engine.cancel(RequestId(0))


# -- listeners and consumers -------------------------------------------------------------------------


def test_a_listener_hears_of_every_delta_and_one_to_the_end_only_of_the_last(gate: Gate) -> None:
    with fake_engine(model=FakeModel(choose=gate)) as engine:
        request = engine.submit("a", max_tokens=3)
        gate.await_reached()
        deltas, ends = [], []
        request.listen(lambda: deltas.append(request.is_done))
        request.listen(lambda: ends.append(request.is_done), to_deltas=False)
        gate.open()
        engine.drain(SOON)
    assert deltas == [False, False, True]
    assert ends == [True]


def test_who_listens_no_more_hears_nothing(gate: Gate) -> None:
    with fake_engine(model=FakeModel(choose=gate)) as engine:
        request = engine.submit("a", max_tokens=3)
        heard: list[int] = []

        def listener() -> None:
            heard.append(1)

        request.listen(listener)
        request.unlisten(listener)
        request.unlisten(listener)
        gate.open()
        engine.drain(SOON)
    assert heard == []


def test_a_listener_that_raises_is_logged_and_harms_neither_its_request_nor_another(gate: Gate) -> None:
    telemetry = RecordingTelemetry()
    heard: list[int] = []

    def broken() -> None:
        raise RuntimeError("Event loop is closed")

    with fake_engine(model=FakeModel(choose=gate), telemetry=telemetry) as engine:
        request, other = engine.submit("a", max_tokens=2), engine.submit("b", max_tokens=2)
        request.listen(broken)
        request.listen(lambda: heard.append(1))
        gate.open()
        assert len(request.result(SOON).token_ids) == len(other.result(SOON).token_ids) == 2
        engine.flush()
    assert heard == [1, 1]
    assert [event.facts for event in telemetry.named("request.listener.failed")] == [
        {"request_id": 0, "error": "RuntimeError: Event loop is closed"}
    ] * 2


def test_a_consumer_that_raises_ends_its_own_request_and_no_other(gate: Gate) -> None:
    def first_token_then_gate(token_ids: Sequence[int]) -> int:
        return fake_next_token(token_ids) if len(token_ids) == 1 else gate(token_ids)

    def consume(engine: Engine) -> None:
        for _ in engine.stream("a", max_tokens=400):
            gate.await_reached()
            raise LookupError("the consumer fell over")

    with fake_engine(model=FakeModel(choose=first_token_then_gate)) as engine:
        with pytest.raises(LookupError, match="fell over"):
            consume(engine)
        other = engine.submit("b", max_tokens=100)
        gate.open()
        assert other.result(SOON).finish_reason is FinishReason.LENGTH
        assert engine.stats().generated_tokens == 2 + 100
        assert engine.stats().pool_blocks_in_use == 0


# -- many at once ------------------------------------------------------------------------------------


def test_threads_that_submit_cancel_and_stream_at_once_all_get_an_end_and_leave_the_pool_empty() -> None:
    with fake_engine(blocks=64, max_num_seqs=8) as engine:
        alone = {letter: engine.generate(letter, max_tokens=8).token_ids for letter in "abcdefgh"}
        begin = threading.Barrier(THREADS)

        def caller(number: int) -> list[str]:
            chance = random.Random(number)
            begin.wait(SOON)
            return [act(chance, chance.choice("abcdefgh")) for _ in range(ROUNDS)]

        def act(chance: random.Random, letter: str) -> str:
            what = chance.choice(("generate", "cancel", "stream", "leave"))
            if what == "generate":
                assert engine.generate(letter, max_tokens=8).token_ids == alone[letter]
            elif what == "cancel":
                request = engine.submit(letter, max_tokens=200)
                request.cancel()
                assert request.result(SOON).finish_reason in (FinishReason.CANCELLED, FinishReason.LENGTH)
            elif what == "stream":
                deltas = list(engine.stream(letter, max_tokens=8))
                assert tuple(token for delta in deltas for token in delta.token_ids) == alone[letter]
            else:
                assert next(engine.stream(letter, max_tokens=200)).token_ids == alone[letter][:1]
            return what

        with ThreadPoolExecutor(THREADS) as threads:
            done = list(threads.map(caller, range(THREADS)))
        assert {what for each in done for what in each} == {"generate", "cancel", "stream", "leave"}
        engine.drain(SOON)
        stats = engine.stats()
        assert (stats.waiting, stats.running, stats.pool_blocks_in_use) == (0, 0, 0)
        assert stats.finished_requests == 8 + THREADS * ROUNDS
