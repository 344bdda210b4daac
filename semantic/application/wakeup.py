"""Waking a task of an event loop from any other thread, without polling."""

import asyncio

from semantic.domain.errors import EventLoopClosedError


class Wakeup:
    """Made where a loop runs, called wherever something has happened, awaited where it runs.

    What was called before :meth:`wait` ends it at once, so look for what is there first. Calls that come while one is
    on its way to the loop are one with it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._is_on_its_way = False

    def __call__(self) -> None:
        """Wake the task, from any thread, without waiting for it. Raises :class:`EventLoopClosedError`."""
        if self._is_on_its_way:
            return
        try:
            self._is_on_its_way = True
            self._loop.call_soon_threadsafe(self._arrive)
        except RuntimeError as exc:  # a loop says so only when it is asked
            self._is_on_its_way = False
            raise self._closed() from exc

    def check(self) -> None:
        """Wake nobody. Raises :class:`EventLoopClosedError` if a call would."""
        if self._loop.is_closed():
            raise self._closed()

    def _closed(self) -> EventLoopClosedError:
        return EventLoopClosedError("the event loop was closed while a task waited; await or cancel its requests first")

    async def wait(self) -> None:
        """Wait for the next call."""
        await self._event.wait()
        self._event.clear()

    def _arrive(self) -> None:
        self._is_on_its_way = False
        self._event.set()
