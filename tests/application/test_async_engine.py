"""The engine from event loops, on fakes. A gated model lets a test decide when a step goes on."""

import asyncio
import gc
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest
from gating import SOON, Gate
from looping import gated, opened, read, run, until

from semantic.adapters.fakes import FakeModel, RecordingTelemetry, fake_engine, fake_next_token
from semantic.application.async_engine import AsyncEngine
from semantic.application.engine import Engine
from semantic.domain.errors import (
    EmptyPromptError,
    EngineClosedError,
    EngineDownError,
    EngineDrainingError,
    InvalidRequestError,
)
from semantic.domain.value_objects import FinishReason

# -- generating --------------------------------------------------------------------------------------


def test_what_is_awaited_is_what_threads_get() -> None:
    async def main() -> None:
        async with opened() as engine:
            done = await engine.generate("abc", max_tokens=5)
            many = await engine.batch_generate(["a", "bc"], max_tokens=[3, 2])
            deltas = [delta async for delta in engine.stream("abc", max_tokens=5)]
            assert done.token_ids == tuple(token for delta in deltas for token in delta.token_ids)
            assert "".join(delta.text for delta in deltas) == done.text
            assert done.text == engine.sync.generate("abc", max_tokens=5).text
            assert [len(one.token_ids) for one in many] == [3, 2]
            assert await engine.encode("ab") == engine.sync.encode("ab")

    run(main())


def test_many_tasks_at_once_get_each_its_own() -> None:
    async def main() -> None:
        async with opened(max_num_seqs=16) as engine:
            alone = [engine.sync.generate(chr(97 + n % 7), max_tokens=9).token_ids for n in range(40)]
            tasks = [engine.generate(chr(97 + n % 7), max_tokens=9) for n in range(40)]
            together = [done.token_ids for done in await asyncio.gather(*tasks)]
            assert together == alone
            assert engine.stats().pool_blocks_in_use == 0

    run(main())


def test_the_loop_goes_on_while_the_engine_computes(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            task = asyncio.create_task(engine.generate("a", max_tokens=2))
            await until(gate.reached.is_set)
            assert not task.done()
            gate.open()
            assert len((await task).token_ids) == 2

    run(main())


def test_a_submitted_request_can_be_awaited_by_several_tasks_andread() -> None:
    async def main() -> None:
        async with opened() as engine:
            request = await engine.submit("a", max_tokens=4)
            first, second, deltas = await asyncio.gather(request.result(), request.result(), read(request))
            assert first is second
            assert len(deltas) == 4
            assert request.is_done
            assert request.id == 0

    run(main())


def test_a_slow_consumer_holds_nobody_back_and_misses_nothing() -> None:
    async def main() -> None:
        async with opened() as engine:
            slow = engine.stream("a", max_tokens=50)
            await anext(slow)
            assert (await engine.generate("b", max_tokens=100)).finish_reason is FinishReason.LENGTH
            assert len([delta async for delta in slow]) == 49

    run(main())


def test_a_request_that_fails_raises_in_its_task_and_in_no_other() -> None:
    async def main() -> None:
        async with opened(model=FakeModel(fail_on=200)) as engine:
            bad, good = await asyncio.gather(
                engine.generate([1, 200, 1], max_tokens=3), engine.generate("a", max_tokens=3), return_exceptions=True
            )
            assert isinstance(bad, RuntimeError)
            assert len(good.token_ids) == 3
            with pytest.raises(RuntimeError, match="told to fail"):
                await anext(engine.stream([1, 200, 1], max_tokens=3))

    run(main())


@pytest.mark.parametrize(("prompt", "sampling"), [("", {}), (None, {}), ("a", {"temperature": 1.0})])
def test_what_is_refused_is_refused_in_the_task(prompt: Any, sampling: dict[str, Any]) -> None:
    async def main() -> None:
        async with opened() as engine:
            for refused in (engine.generate, engine.submit):
                with pytest.raises((EmptyPromptError, InvalidRequestError)):
                    await refused(prompt, **sampling)
            with pytest.raises(InvalidRequestError):
                await anext(engine.stream(prompt, **sampling))
            await engine.flush()
            assert engine.stats().steps == 0

    run(main())


# -- loops and threads -------------------------------------------------------------------------------


def test_loops_of_several_threads_and_plain_threads_share_an_engine() -> None:
    with fake_engine(max_num_seqs=8) as sync:
        alone = {letter: sync.generate(letter, max_tokens=6).token_ids for letter in "abcd"}

        async def main() -> None:
            engine = AsyncEngine(sync)
            for letter in "abcdabcd":
                done, deltas = await asyncio.gather(
                    engine.generate(letter, max_tokens=6), read(await engine.submit(letter, max_tokens=6))
                )
                assert done.token_ids == deltas[-1].completion.token_ids == alone[letter]

        def plain() -> None:
            for letter in "abcdabcd":
                assert sync.generate(letter, max_tokens=6).token_ids == alone[letter]

        with ThreadPoolExecutor(8) as threads:
            jobs = [threads.submit(run, main()) for _ in range(4)] + [threads.submit(plain) for _ in range(4)]
            for job in jobs:
                job.result()
        sync.drain(SOON)
        assert sync.stats().pool_blocks_in_use == 0
        assert sync.stats().finished_requests == 4 + 4 * 16 + 4 * 8


@pytest.mark.parametrize("waits_for", ["deltas", "result"])
def test_a_loop_that_is_closed_under_a_request_cancels_it_and_harms_nobody(gate: Gate, waits_for: str) -> None:
    telemetry = RecordingTelemetry()

    def first_token_then_gate(token_ids: Sequence[int]) -> int:
        return fake_next_token(token_ids) if len(token_ids) == 1 else gate(token_ids)

    with fake_engine(model=FakeModel(choose=first_token_then_gate), telemetry=telemetry) as sync:
        kept: list[Any] = []  # or collecting the task would cancel its request

        async def waiting() -> None:
            request = await AsyncEngine(sync).submit("a", max_tokens=900)
            await (read(request) if waits_for == "deltas" else request.result())

        loop = asyncio.new_event_loop()
        kept.append(loop.create_task(waiting()))
        loop.run_until_complete(until_reached(gate))
        loop.close()
        gate.open()
        sync.drain(SOON)
        assert sync.stats().generated_tokens < 10
        assert sync.stats().pool_blocks_in_use == 0
        [said] = telemetry.named("request.listener.failed")
        assert (said.level, said.facts["request_id"]) == ("warning", 0)
        assert said.facts["error"].startswith("EventLoopClosedError: the event loop was closed while a task waited")
        assert sync.stats().finished_requests == 1
        kept[0]._log_destroy_pending = False


def test_a_loop_that_ends_once_its_requests_were_cancelled_is_no_cause_for_a_warning(gate: Gate) -> None:
    telemetry = RecordingTelemetry()

    def first_token_then_gate(token_ids: Sequence[int]) -> int:
        return fake_next_token(token_ids) if len(token_ids) == 1 else gate(token_ids)

    with fake_engine(model=FakeModel(choose=first_token_then_gate), telemetry=telemetry) as sync:

        async def main() -> None:
            engine = AsyncEngine(sync)
            awaited = asyncio.create_task(engine.generate("b", max_tokens=900))
            async with aclosing(engine.stream("a", max_tokens=900)) as stream:
                await anext(stream)
                await until_reached(gate)
            awaited.cancel()

        run(main())
        gate.open()
        sync.drain(SOON)
        assert sync.stats().pool_blocks_in_use == 0
        assert telemetry.named("request.listener.failed") == []


async def until_reached(gate: Gate) -> None:
    await until(gate.reached.is_set)


def test_many_tasks_that_generate_stream_leave_and_cancel_leave_the_pool_empty() -> None:
    async def main() -> None:
        async with opened(max_num_seqs=8) as engine:
            alone = engine.sync.generate("a", max_tokens=8).token_ids

            async def caller(number: int) -> None:
                for turn in range(8):
                    match (number + turn) % 4:
                        case 0:
                            assert (await engine.generate("a", max_tokens=8)).token_ids == alone
                        case 1:
                            deltas = await read(await engine.submit("a", max_tokens=8))
                            assert len(deltas) == 8
                        case 2:
                            async for delta in engine.stream("a", max_tokens=200):
                                assert delta.token_ids == alone[:1]
                                break
                        case 3:
                            task = asyncio.create_task(engine.generate("a", max_tokens=200))
                            await asyncio.sleep(0)
                            task.cancel()
                            with pytest.raises(asyncio.CancelledError):
                                await task

            await asyncio.gather(*(caller(number) for number in range(32)))
            await engine.drain()
            stats = engine.stats()
            assert (stats.waiting, stats.running, stats.pool_blocks_in_use) == (0, 0, 0)

    run(main())


def test_no_thread_is_left_when_the_engine_is_closed_and_gone() -> None:
    before = threading.active_count()

    async def main() -> None:
        async with opened() as engine:
            await asyncio.gather(*(engine.generate("a", max_tokens=2) for _ in range(20)))

    run(main())
    gave_up_at = time.monotonic() + SOON
    while threading.active_count() > before and time.monotonic() < gave_up_at:
        gc.collect()
    assert threading.active_count() <= before


# -- the end -----------------------------------------------------------------------------------------


def test_leaving_the_engine_cancels_what_runs(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            request = await engine.submit("a", max_tokens=900)
            await until(gate.reached.is_set)
        assert (await request.result()).finish_reason is FinishReason.CANCELLED
        for verb in (lambda: engine.generate("a"), lambda: anext(engine.stream("a")), engine.flush, engine.drain):
            with pytest.raises(EngineClosedError):
                await verb()
        await engine.close()

    run(main())


def test_draining_waits_for_what_was_taken_and_refuses_the_rest(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            request = await engine.submit("a", max_tokens=3)
            await until(gate.reached.is_set)
            with pytest.raises(TimeoutError, match=r"not drained within 0\.02 s; it goes on"):
                await engine.drain(timeout=0.02)
            with pytest.raises(EngineDrainingError):
                await engine.generate("b")
            draining = asyncio.create_task(engine.drain())
            gate.open()
            await draining
            assert request.is_done
            assert len((await request.result()).token_ids) == 3

    run(main())


def test_an_engine_that_goes_down_says_so_to_every_task(gate: Gate) -> None:
    model = FakeModel(choose=gate)

    def close(cache: object) -> None:
        raise OSError("the memory is on fire")

    model.memory.close = close

    async def main() -> None:
        async with AsyncEngine(fake_engine(model=model)) as engine:
            tasks = [asyncio.create_task(engine.generate("a", max_tokens=n)) for n in (1, 900)]
            await until(gate.reached.is_set)
            gate.open()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(outcome, EngineDownError)

    run(main())


def test_the_face_is_put_over_an_engine_that_is_open() -> None:
    engine: Engine = fake_engine()
    face = AsyncEngine(engine)
    assert (face.sync, face.profile, face.tokenizer) == (engine, engine.profile, engine.tokenizer)
    engine.close()
