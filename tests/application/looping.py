"""Engines on event loops, for tests: each runs to an end, and none waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gating import SOON, Gate

from semantic.adapters.fakes import FakeModel, fake_engine, fake_next_token
from semantic.application.async_engine import AsyncEngine
from semantic.application.async_requests import AsyncRequest
from semantic.domain.errors import EngineClosedError
from semantic.domain.value_objects import Delta


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run on an event loop of its own, with an end to all waiting."""

    async def limited() -> Any:
        async with asyncio.timeout(SOON):
            return await main

    return asyncio.run(limited())


@asynccontextmanager
async def opened(**parts: Any) -> AsyncIterator[AsyncEngine]:
    async with AsyncEngine(fake_engine(**parts)) as engine:
        yield engine


@asynccontextmanager
async def gated(gate: Gate) -> AsyncIterator[AsyncEngine]:
    """An engine that stands still from its second token of each prompt of one token on, until the gate opens."""

    def first_token_then_gate(token_ids: Sequence[int]) -> int:
        return fake_next_token(token_ids) if len(token_ids) == 1 else gate(token_ids)

    try:
        async with opened(model=FakeModel(choose=first_token_then_gate)) as engine:
            yield engine
            opening = asyncio.create_task(open_once_closed(engine, gate))
        await opening
    finally:
        gate.open()


async def open_once_closed(engine: AsyncEngine, gate: Gate) -> None:
    """Let what stands still go on when it can only be cancelled."""
    await until(lambda: is_closed(engine))
    gate.open()


def is_closed(engine: AsyncEngine) -> bool:
    try:
        engine.sync.agent("nobody")
    except EngineClosedError:
        return True
    return False


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def read(request: AsyncRequest) -> list[Delta]:
    """All deltas there are."""
    return [delta async for delta in request]
