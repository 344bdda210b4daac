"""An executor without threads: work is done at once, or when a test says so."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class FakeExecutor(Executor):
    """Runs what is submitted at once; with ``waits=True`` only when :meth:`run` is called, oldest first."""

    def __init__(self, *, waits: bool = False) -> None:
        self._waits = waits
        self._tasks: deque[Callable[[], None]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Take a task."""
        future: Future[Any] = Future()

        def task() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - it is the future's
                future.set_exception(error)

        self._tasks.append(task)
        if not self._waits:
            self.run()
        return future

    def run(self, most: int | None = None) -> int:
        """Do waiting tasks, at most so many; returns how many were done."""
        done = 0
        while self._tasks and done != most:
            self._tasks.popleft()()
            done += 1
        return done

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do what is left."""
        if cancel_futures:
            self._tasks.clear()
        self.run()
