"""Opening an engine without blocking the event loop."""

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any

from semantic.application.async_engine import AsyncEngine
from semantic.application.background import Background
from semantic.application.engine import Engine


class AsyncOpening:
    """``async with`` it to have the engine closed at the end, or ``await`` it and close the engine yourself.

    ``before`` runs on the loop's own thread, ``open_engine`` on another. If the task is cancelled meanwhile, the engine
    is closed as soon as it is open.
    """

    def __init__(self, open_engine: Callable[[], Engine], before: Callable[[], object] = lambda: None) -> None:
        self._open_engine, self._before = open_engine, before
        self._engine: AsyncEngine | None = None

    async def _open(self) -> AsyncEngine:
        self._before()
        opener = Background("semantic-open", most_threads=1)
        return AsyncEngine(await opener.make(self._open_engine, undo=Engine.close))

    def __await__(self) -> Generator[Any, None, AsyncEngine]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncEngine:
        self._engine = await self._open()
        return self._engine

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._engine is not None
        await self._engine.close()
