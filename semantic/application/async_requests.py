"""A request as a task of an event loop holds it."""

import queue
from collections.abc import AsyncIterator, Awaitable, Callable

from semantic.application.requests import Request
from semantic.application.wakeup import Wakeup
from semantic.domain.errors import EventLoopClosedError
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import Completion, Delta


class AsyncRequest:
    """A submitted request: await its :meth:`result`, iterate over its deltas (once), or :meth:`cancel` it.

    Deltas wait in the request's own queue, of at most ``max_tokens``, so a slow consumer holds nobody back. If the
    event loop is closed under a task that waits, the request is cancelled.
    """

    def __init__(self, request: Request) -> None:
        self.sync = request

    @property
    def id(self) -> RequestId:
        """Names it in :meth:`AsyncEngine.cancel`, and in the log."""
        return self.sync.id

    @property
    def is_done(self) -> bool:
        """Whether it has completed, failed, or been cancelled."""
        return self.sync.is_done

    async def result(self) -> Completion:
        """Wait for the completion. Raises what ended the request otherwise.

        A task that is cancelled here cancels the request; ``asyncio.shield`` the call to keep it.
        """
        wakeup = Wakeup()
        listener = _cancelling(self.sync, lambda: wakeup() if self.sync.is_done else wakeup.check())
        self.sync.listen(listener)
        try:
            while not self.sync.is_done:
                await wakeup.wait()
        except BaseException:
            self.cancel()
            raise
        finally:
            self.sync.unlisten(listener)
        return self.sync.result()

    def cancel(self) -> None:
        """End it as soon as the present step is over; a request that is done stays as it is. Does not wait."""
        self.sync.cancel()

    def __aiter__(self) -> "AsyncDeltas":
        """Deltas as they come; the last one carries the completion. Leaving the loop early cancels the request."""

        async def begin() -> Request:
            return self.sync

        return AsyncDeltas(begin)


class AsyncDeltas(AsyncIterator[Delta]):
    """A loop over a request's deltas, for one task. The request begins with the first step of the loop.

    :meth:`aclose` cancels what is left, and so do a cancelled task and dropping the loop: ``break`` is enough where
    nothing else refers to it, else ``async with contextlib.aclosing(...)``.
    """

    def __init__(self, begin: Callable[[], Awaitable[Request]]) -> None:
        self._begin = begin
        self._request: Request | None = None
        self._wakeup: Wakeup | None = None
        self._listener: Callable[[], None] = lambda: None
        self._is_over = False

    async def __anext__(self) -> Delta:
        if self._is_over:
            raise StopAsyncIteration
        try:
            delta = await self._next()
        except BaseException:
            self._close()
            raise
        if delta is None:
            self._is_over, self._request = True, None
            raise StopAsyncIteration
        return delta

    async def _next(self) -> Delta | None:
        if self._request is None or self._wakeup is None:
            self._wakeup = Wakeup()
            self._request = await self._begin()
            self._listener = _cancelling(self._request, self._wakeup)
            self._request.listen(self._listener)
        while True:
            try:
                return self._request.next_delta(wait=False)
            except queue.Empty:
                await self._wakeup.wait()

    async def aclose(self) -> None:
        """Read no further."""
        self._close()

    def _close(self) -> None:
        self._is_over = True
        request, self._request = self._request, None
        if request is not None:
            request.unlisten(self._listener)  # how the request ends is no concern of the loop any more
            request.cancel()

    def __del__(self) -> None:
        self._close()


def _cancelling(request: Request, listener: Callable[[], None]) -> Callable[[], None]:
    """A listener that cancels the request when its loop is closed, since nobody reads on. It says so once."""
    is_lost = False

    def listen() -> None:
        nonlocal is_lost
        if is_lost:
            return
        try:
            listener()
        except EventLoopClosedError:
            is_lost = True
            request.cancel()
            raise

    return listen
