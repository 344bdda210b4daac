"""Tasks that are cancelled, time out, or read no further, on fakes."""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

import pytest
from gating import Gate
from looping import gated, opened, read, run, until

from semantic.adapters.fakes import FakeModel
from semantic.application.async_engine import AsyncEngine
from semantic.domain.errors import (
    EngineDrainingError,
    RequestFinishedError,
)
from semantic.domain.value_objects import FinishReason


async def assert_cancelled(engine: AsyncEngine, gate: Gate, tokens: int = 2) -> None:
    """The one request ended when the step that was under way did."""
    gate.open()
    await engine.drain()
    assert engine.stats().generated_tokens == tokens
    assert engine.stats().pool_blocks_in_use == 0


async def cancel_on_its_way(work: Coroutine[Any, Any, Any], gate: Gate) -> None:
    """Cancel a task that does this once the engine is at its first step."""
    task = asyncio.create_task(work)
    await until(gate.reached.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_task_cancels_its_request(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            await cancel_on_its_way(engine.generate("a", max_tokens=900), gate)
            await assert_cancelled(engine, gate)

    run(main())


def test_a_timeout_cancels_its_request(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            request = await engine.submit("a", max_tokens=900)
            await until(gate.reached.is_set)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await request.result()
            await assert_cancelled(engine, gate)

    run(main())


def test_a_shielded_result_survives_its_task(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            request = await engine.submit("a", max_tokens=3)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(request.result()), 0.02)
            gate.open()
            assert (await request.result()).finish_reason is FinishReason.LENGTH

    run(main())


def test_leaving_a_loop_early_cancels_its_request(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            async for _ in engine.stream("a", max_tokens=900):
                await until(gate.reached.is_set)
                break
            await assert_cancelled(engine, gate)

    run(main())


def test_closing_a_stream_that_something_still_refers_to_cancels_its_request(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            async with aclosing(engine.stream("a", max_tokens=900)) as stream:
                await anext(stream)
                await until(gate.reached.is_set)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            await assert_cancelled(engine, gate)

    run(main())


def test_a_consumer_that_raises_cancels_its_own_request_alone(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            with pytest.raises(LookupError):
                await _fall_over(engine, gate)
            other = await engine.submit("b", max_tokens=100)
            gate.open()
            assert len((await other.result()).token_ids) == 100
            await assert_cancelled(engine, gate, tokens=2 + 100)

    run(main())


async def _fall_over(engine: AsyncEngine, gate: Gate) -> None:
    async for _ in engine.stream("a", max_tokens=900):
        await until(gate.reached.is_set)
        raise LookupError("the consumer fell over")


def test_a_task_cancelled_while_it_waits_for_the_next_delta_cancels_its_request(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            await cancel_on_its_way(read(await engine.submit("a", max_tokens=900)), gate)
            await assert_cancelled(engine, gate)

    run(main())


def test_a_request_is_cancelled_by_its_id_and_a_finished_one_says_so(gate: Gate) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            request = await engine.submit("a", max_tokens=900)
            await until(gate.reached.is_set)
            engine.cancel(request.id)
            gate.open()
            assert (await request.result()).finish_reason is FinishReason.CANCELLED
            await engine.drain()
            with pytest.raises(RequestFinishedError):
                engine.cancel(request.id)

    run(main())


def test_a_batch_of_which_one_fails_cancels_the_others() -> None:
    async def main() -> None:
        async with opened(model=FakeModel(fail_on=200)) as engine:
            with pytest.raises(RuntimeError, match="told to fail"):
                await engine.batch_generate([[1, 200, 1], "a"], max_tokens=900)
            await engine.drain()
            assert engine.stats().pool_blocks_in_use == 0

    run(main())


def test_a_batch_of_which_one_is_refused_late_cancels_those_that_were_taken(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with gated(gate) as engine:
            taken: list[Any] = []
            start = engine.sync.start

            def start_one(submission: Any) -> Any:
                if taken:
                    raise EngineDrainingError("the engine is draining")
                taken.append(start(submission))
                return taken[0]

            monkeypatch.setattr(engine.sync, "start", start_one)
            with pytest.raises(EngineDrainingError):
                await engine.batch_generate(["a", "b"], max_tokens=900)
            gate.open()
            await engine.drain()
            assert taken[0].result().finish_reason is FinishReason.CANCELLED
            assert engine.stats().pool_blocks_in_use == 0

    run(main())
