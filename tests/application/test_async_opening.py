"""``semantic.aopen``: awaited or entered, off the loop's thread, and undone where nobody waits for it any more."""

import asyncio
import threading
from typing import Any

import pytest
from gating import SOON

import semantic
from semantic.adapters.fakes import FakeModel, fake_engine
from semantic.application.async_opening import AsyncOpening
from semantic.application.engine import Engine
from semantic.domain.errors import EngineClosedError, ModelNotFoundError


def test_entering_opens_on_another_thread_and_leaving_closes() -> None:
    threads: list[int] = []

    def open_engine() -> Engine:
        threads.append(threading.get_ident())
        return fake_engine()

    async def main() -> None:
        opening = AsyncOpening(open_engine, lambda: threads.append(threading.get_ident()))
        async with opening as engine:
            assert len((await engine.generate("a", max_tokens=3)).token_ids) == 3
        with pytest.raises(EngineClosedError):
            await engine.generate("a")

    asyncio.run(main())
    assert threads[0] == threading.get_ident()
    assert threads[1] != threading.get_ident()


def test_awaiting_gives_an_engine_to_close_oneself() -> None:
    async def main() -> None:
        engine = await AsyncOpening(fake_engine)
        assert (await engine.generate("a", max_tokens=1)).finish_reason == "length"
        await engine.close()

    asyncio.run(main())


def test_an_engine_that_cannot_be_opened_raises_the_cause_in_the_task() -> None:
    def open_engine() -> Engine:
        raise ModelNotFoundError("no such model")

    async def main() -> None:
        with pytest.raises(ModelNotFoundError, match="no such model"):
            async with AsyncOpening(open_engine):
                raise AssertionError("it is not open")

    asyncio.run(main())


def test_a_task_cancelled_while_it_opens_has_the_engine_closed_once_it_is_open() -> None:
    begun, go_on, model = threading.Event(), threading.Event(), FakeModel()

    def open_engine() -> Engine:
        begun.set()
        assert go_on.wait(SOON)
        return fake_engine(model=model)

    async def main() -> None:
        async def opening() -> Any:
            return await AsyncOpening(open_engine)

        task = asyncio.create_task(opening())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        async with asyncio.timeout(SOON):
            while not model.is_released:
                await asyncio.sleep(0.001)

    asyncio.run(main())


def test_aopen_takes_what_open_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, dict[str, Any]]] = []

    def open_on_fakes(model: Any, **settings: Any) -> Engine:
        given.append((model, settings))
        return fake_engine()

    monkeypatch.setattr(semantic, "open", open_on_fakes)

    async def main() -> None:
        async with semantic.aopen("fake", memory="1GB", store="./kv"):
            pass

    asyncio.run(main())
    assert given == [("fake", {"memory": "1GB", "store": "./kv"})]
