"""The engine from many threads, on fakes. A gated model lets a test decide when a step goes on."""

import gc
import signal
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gating import SOON, Gate

from semantic.adapters.fakes import (
    FakeModel,
    FakeTokenizer,
    RecordingTelemetry,
    fake_batch_engine,
    fake_engine,
    fake_next_token,
)
from semantic.adapters.fakes.archive import MemoryArchive
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.engine import Engine
from semantic.domain.errors import (
    ChatTemplateError,
    EmptyPromptError,
    EngineClosedError,
    EngineDownError,
    InvalidRequestError,
    TokenizerRequiredError,
    TokenOutOfVocabularyError,
)
from semantic.domain.value_objects import FinishReason


@pytest.fixture
def gated(gate: Gate) -> Iterator[Engine]:
    """An engine that stands still in its first decode step."""
    engine = fake_engine(model=FakeModel(choose=gate))
    yield engine
    gate.open()
    engine.close()


def failing_engine(gate: Gate, telemetry: RecordingTelemetry | None = None) -> Engine:
    """An engine whose memory breaks when the first request ends."""
    model = FakeModel(choose=gate)

    def close(cache: object) -> None:
        raise OSError("the memory is on fire")

    model.memory.close = close
    return fake_engine(model=model, telemetry=telemetry)


def without_tokenizer() -> Engine:
    def build() -> BlockPoolBatchEngine:
        engine = fake_batch_engine()
        engine.tokenizer = None
        return engine

    return Engine(build, RecordingTelemetry(), MemoryArchive())


# -- generating --------------------------------------------------------------------------------------


def test_a_prompt_may_be_text_token_ids_or_chat_messages(engine: Engine) -> None:
    text = engine.generate("<user>Hi<assistant>", max_tokens=5)
    ids = engine.generate(FakeTokenizer().encode("<user>Hi<assistant>"), max_tokens=5)
    chat = engine.generate([{"role": "user", "content": "Hi"}], max_tokens=5)
    assert text.token_ids == ids.token_ids == chat.token_ids
    assert len(text.text) == 5


def test_a_batchs_completions_come_in_the_order_of_its_prompts(engine: Engine) -> None:
    many = engine.batch_generate(["a", "bc", "def"], max_tokens=[9, 1, 4])
    assert [completion.usage.prompt_tokens for completion in many] == [1, 2, 3]
    assert [len(completion.token_ids) for completion in many] == [9, 1, 4]
    assert many[0].token_ids == engine.generate("a", max_tokens=9).token_ids
    assert engine.batch_generate([]) == []


def test_max_tokens_of_a_batch_is_one_number_or_one_for_each_prompt(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="3 values for 2 prompts"):
        engine.batch_generate(["a", "b"], max_tokens=[1, 2, 3])


def test_a_batch_with_one_bad_prompt_starts_none_of_them(engine: Engine) -> None:
    with pytest.raises(TokenOutOfVocabularyError):
        engine.batch_generate(["a", [999]])
    engine.flush()
    assert engine.stats().steps == 0


def test_a_batch_of_which_one_fails_cancels_the_others() -> None:
    with fake_engine(model=FakeModel(fail_on=200)) as engine:
        with pytest.raises(RuntimeError, match="told to fail"):
            engine.batch_generate([[1, 200, 1], "a"], max_tokens=1000)
        engine.flush()
        assert engine.stats().pool_blocks_in_use == 0
        assert engine.generate("a", max_tokens=2).finish_reason is FinishReason.LENGTH


def test_a_streams_pieces_joined_are_the_completions_text(engine: Engine) -> None:
    deltas = list(engine.stream("a", max_tokens=6))
    last = deltas[-1].completion
    assert last is not None
    assert "".join(delta.text for delta in deltas) == last.text == engine.generate("a", max_tokens=6).text
    assert [delta.completion for delta in deltas[:-1]] == [None] * 5


def test_a_second_loop_over_a_request_yields_nothing(engine: Engine) -> None:
    request = engine.submit("a", max_tokens=3)
    assert len(list(request)) == 3
    assert list(request) == []
    assert len(request.result().token_ids) == 3


# -- many threads ------------------------------------------------------------------------------------


def test_many_threads_may_submit_at_once_and_each_gets_its_own(engine: Engine) -> None:
    prompts = [chr(97 + number % 26) * (1 + number % 7) for number in range(60)]
    alone = {prompt: engine.generate(prompt, max_tokens=4).token_ids for prompt in set(prompts)}
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(lambda prompt: engine.generate(prompt, max_tokens=4).token_ids, prompts))
    assert together == [alone[prompt] for prompt in prompts]
    assert engine.stats().pool_blocks_in_use == 0


def test_requests_of_several_threads_share_decode_steps(gate: Gate) -> None:
    model = FakeModel(choose=gate)
    with fake_engine(model=model) as engine:
        first = engine.submit("a", max_tokens=3)
        gate.await_reached()
        others = [engine.submit("b", max_tokens=2) for _ in range(3)]
        gate.open()
        for request in (first, *others):
            request.result(SOON)
    assert model.forwards == ["decode 1", "decode 4", "decode 4"]


def test_a_slow_consumer_holds_nobody_back(engine: Engine) -> None:
    slow = engine.stream("a", max_tokens=50)
    assert next(slow).completion is None
    assert engine.generate("b", max_tokens=100).finish_reason is FinishReason.LENGTH
    assert len(list(slow)) == 49


def test_another_thread_may_cancel(gated: Engine, gate: Gate) -> None:
    request = gated.submit("a", max_tokens=1000)
    gate.await_reached()
    canceller = threading.Thread(target=request.cancel)
    canceller.start()
    canceller.join()
    gate.open()
    completion = request.result(SOON)
    assert completion.finish_reason is FinishReason.CANCELLED
    assert len(completion.token_ids) == 1
    assert gated.stats().pool_blocks_in_use == 0


def test_cancelling_a_finished_request_changes_nothing(engine: Engine) -> None:
    request = engine.submit("a", max_tokens=2)
    request.result(SOON)
    request.cancel()
    assert request.is_done
    assert request.result().finish_reason is FinishReason.LENGTH


def test_leaving_a_stream_early_cancels_it_after_the_step_that_is_under_way(gate: Gate) -> None:
    def first_token_then_gate(token_ids: Sequence[int]) -> int:
        return fake_next_token(token_ids) if len(token_ids) == 1 else gate(token_ids)

    with fake_engine(model=FakeModel(choose=first_token_then_gate)) as engine:
        stream = engine.stream("a", max_tokens=900)
        next(stream)
        gate.await_reached()
        stream.close()  # type: ignore[attr-defined]
        gate.open()
        engine.flush()
        assert engine.stats().running == 0
        assert engine.stats().generated_tokens == 2
        assert engine.stats().pool_blocks_in_use == 0


def test_a_result_that_is_not_there_in_time_is_a_timeout_and_the_request_goes_on(gated: Engine, gate: Gate) -> None:
    request = gated.submit("a", max_tokens=2)
    with pytest.raises(TimeoutError, match=r"within 0\.01 s; it goes on"):
        request.result(timeout=0.01)
    gate.open()
    assert len(request.result(SOON).token_ids) == 2


def test_an_interrupt_while_waiting_cancels_the_request(gated: Engine, gate: Gate) -> None:
    request = gated.submit("a", max_tokens=1000)
    gate.await_reached()
    waiting = threading.get_ident()
    threading.Timer(0.05, lambda: signal.pthread_kill(waiting, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        request.result(SOON)
    gate.open()
    assert request.result(SOON).finish_reason is FinishReason.CANCELLED


def test_flush_returns_after_what_was_submitted_before(engine: Engine) -> None:
    request = engine.submit("a", max_tokens=1)
    engine.flush()
    assert request.is_done or engine.stats().running == 1


# -- the end -----------------------------------------------------------------------------------------


def test_closing_cancels_what_runs_and_what_waits(gate: Gate) -> None:
    with fake_engine(model=FakeModel(choose=gate), max_num_seqs=1) as engine:
        running, waiting = engine.submit("a", max_tokens=1000), engine.submit("b", max_tokens=1000)
        gate.await_reached()
        gate.open()
    assert running.result(SOON).finish_reason is FinishReason.CANCELLED
    assert waiting.result(SOON).token_ids == ()
    assert engine.stats().pool_blocks_in_use == 0


def test_after_close_every_verb_is_refused_except_closing_again_and_stats() -> None:
    engine = fake_engine()
    engine.close()
    engine.close()
    verbs: list[Callable[[], Any]] = [
        lambda: engine.generate("a"),
        lambda: engine.submit("a"),
        lambda: engine.stream("a"),
        lambda: engine.batch_generate(["a"]),
        engine.flush,
    ]
    for verb in verbs:
        with pytest.raises(EngineClosedError, match=r"semantic\.open"):
            verb()
    assert engine.stats().finished_requests == 0


def test_an_engine_that_nobody_holds_any_more_is_closed() -> None:
    model = FakeModel()
    engine = fake_engine(model=model)
    engine.generate("a", max_tokens=1)
    del engine
    gave_up_at = time.monotonic() + SOON
    while not model.is_released and time.monotonic() < gave_up_at:
        gc.collect()
    assert model.is_released


def test_a_stream_keeps_its_engine_open() -> None:
    deltas = list(fake_engine().stream("a", max_tokens=50))
    assert deltas[-1].finish_reason is FinishReason.LENGTH
    assert fake_engine().submit("a", max_tokens=50).result(SOON).finish_reason is FinishReason.LENGTH


def test_when_the_owner_thread_fails_all_who_wait_and_all_who_come_later_hear_of_it_at_once(gate: Gate) -> None:
    telemetry = RecordingTelemetry()
    engine = failing_engine(gate, telemetry)
    ends_it = engine.submit("a", max_tokens=1)
    gate.await_reached()
    others = [engine.submit("b", max_tokens=1000) for _ in range(2)]
    stream = engine.stream("c", max_tokens=1000)
    gate.open()
    for request in (ends_it, *others):
        with pytest.raises(EngineDownError, match="OSError: the memory is on fire; open a new engine") as caught:
            request.result(SOON)
        assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(EngineDownError):
        list(stream)
    for verb in (lambda: engine.generate("a"), engine.flush, lambda: engine.submit("a")):
        with pytest.raises(EngineDownError):
            verb()
    assert [event.level for event in telemetry.named("engine.down")] == ["error"]
    engine.close()


def test_an_engine_that_cannot_be_built_raises_the_cause_to_its_opener() -> None:
    def build() -> BlockPoolBatchEngine:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        Engine(build, RecordingTelemetry(), MemoryArchive())


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", [], ()])
def test_an_empty_prompt_is_refused(engine: Engine, prompt: Any) -> None:
    with pytest.raises(EmptyPromptError, match="prompt is empty"):
        engine.generate(prompt)


@pytest.mark.parametrize("prompt", [None, 5, b"bytes", [1.5, 2], ["a", "b"], [1, "a"], {"role": "user"}])
def test_a_prompt_of_another_kind_is_refused(engine: Engine, prompt: Any) -> None:
    with pytest.raises(InvalidRequestError, match="a prompt is a str, a list of token ids"):
        engine.generate(prompt)


def test_an_unknown_keyword_is_refused_and_the_known_ones_are_named(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match=r"temperature.*known are max_tokens, temp"):
        engine.generate("a", temperature=1.0)


def test_messages_that_the_template_refuses_are_a_named_error(engine: Engine) -> None:
    with pytest.raises(ChatTemplateError, match="content"):
        engine.generate([{"role": "user"}])


def test_without_a_tokenizer_prompts_are_token_ids() -> None:
    with without_tokenizer() as engine:
        assert engine.generate([5, 6], max_tokens=2).text == ""
        for prompt in ("text", [{"role": "user", "content": "Hi"}]):
            with pytest.raises(TokenizerRequiredError, match="token ids"):
                engine.generate(prompt)
        with pytest.raises(TokenizerRequiredError, match="stop_token_ids"):
            engine.generate([5], stop="x")


def test_after_any_refusal_the_engine_goes_on_serving(engine: Engine) -> None:
    before = engine.generate("abc", max_tokens=5).token_ids
    for prompt, sampling in (("", {}), ([-1], {}), ("a", {"max_tokens": 0}), ("a", {"temp": float("nan")})):
        with pytest.raises(InvalidRequestError):
            engine.generate(prompt, **sampling)  # type: ignore[arg-type]
    assert engine.generate("abc", max_tokens=5).token_ids == before


def test_arrays_of_token_ids_are_prompts_too() -> None:
    with fake_engine() as engine:
        assert engine.encode(array("I", [1, 2, 3])) == [1, 2, 3]
