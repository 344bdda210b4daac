"""Threads on which the async face does what would block an event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

_MOST_THREADS = 32
"""They are made as they are needed. Most of them wait, for a turn or for the disk."""


class Background:
    """Runs calls on threads of its own, so that a program's default executor being busy holds nobody back."""

    def __init__(self, name: str, most_threads: int = _MOST_THREADS) -> None:
        self._threads = ThreadPoolExecutor(most_threads, thread_name_prefix=name)

    async def run(self, call: Callable[[], Result]) -> Result:
        """What ``call`` returns. If the task is cancelled, a call that has begun still runs to its end."""
        return await asyncio.wrap_future(self._threads.submit(call))

    async def make(self, call: Callable[[], Result], undo: Callable[[Result], object]) -> Result:
        """As :meth:`run`, but what ``call`` makes is undone if the task is cancelled before it has it."""
        made = self._threads.submit(call)
        try:
            return await asyncio.shield(asyncio.wrap_future(made))
        except BaseException:
            made.add_done_callback(lambda job: _undo(job, undo))
            raise


def _undo(job: "Future[Result]", undo: Callable[[Result], object]) -> None:
    if not job.cancelled() and job.exception() is None:
        undo(job.result())
