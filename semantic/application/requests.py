"""A request as its caller holds it, from any thread."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

from semantic.application.waiting import wait_in_slices
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import Completion, Delta

Listener = Callable[[], None]
"""Called on the engine's thread, between two steps: it must neither wait nor raise."""


class Request:
    """A submitted request: wait for its :meth:`result`, iterate over its deltas (once), or :meth:`cancel` it.

    Deltas wait in a queue of their own, so a slow consumer holds nobody back. The queue is not bounded but its request
    is: there are never more deltas than ``max_tokens``, and one for the end. ``id`` is the request's in its engine: in
    :meth:`Engine.cancel`, and in the log.
    """

    def __init__(self, request_id: RequestId, cancel: Callable[["Request"], None]) -> None:
        self.id = request_id
        self._cancel = cancel
        self.on_cancel: Callable[[], None] = lambda: None  # told at once, on the thread that cancels
        self.engine: object = None  # held, so that an engine isn't closed under a request that someone still awaits
        self._deltas: queue.SimpleQueue[Delta | None] = queue.SimpleQueue()
        self._listeners: list[Listener] = []
        self._end_listeners: list[Listener] = []
        self._ended = threading.Event()
        self._completion: Completion | None = None
        self._error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has completed, failed, or been cancelled."""
        return self._ended.is_set()

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the completion. Raises what ended the request otherwise, ``TimeoutError`` after ``timeout`` seconds.

        An interrupt (Ctrl-C) cancels the request before it goes on to the caller.
        """
        try:
            if not wait_in_slices(self._ended.wait, timeout):
                raise TimeoutError(f"the request has not finished within {timeout} s; it goes on, or cancel() it")
        except KeyboardInterrupt:
            self.cancel()
            raise
        if self._error is not None:
            raise self._error
        assert self._completion is not None
        return self._completion

    def __iter__(self) -> "Deltas":
        """Deltas as they come; the last one carries the completion. Leaving the loop early cancels the request."""
        return Deltas(self)

    def next_delta(self, *, wait: bool = True) -> Delta | None:
        """Wait for the next one; None when there are no more. Raises what ended the request, if that was an error.

        Without ``wait`` it raises ``queue.Empty`` where the next one is not there yet.
        """
        delta = self._deltas.get(block=wait)
        if delta is None:
            self._deltas.put(None)  # a second loop ends at once
            if self._error is not None:
                raise self._error
        return delta

    def cancel(self) -> None:
        """End it as soon as the present step is over; a request that is done stays as it is."""
        if not self.is_done:
            self.on_cancel()
            self._cancel(self)

    def listen(self, listener: Listener, *, to_deltas: bool = True) -> None:
        """Call ``listener`` after every delta and at the end, or at the end alone.

        Look for what is there after this call and before waiting: what came earlier is not told.
        """
        if to_deltas:
            self._listeners.append(listener)
        self._end_listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Call ``listener`` no more; one that does not listen is left as it is."""
        for listeners in (self._listeners, self._end_listeners):
            with contextlib.suppress(ValueError):
                listeners.remove(listener)

    # -- the engine's side -----------------------------------------------------------------------

    def deliver(self, delta: Delta) -> None:
        """Hand the caller one more delta; the one with a completion is the last."""
        self._deltas.put(delta)
        if delta.completion is not None:
            self._completion = delta.completion
            self._end()
        else:
            self._tell(self._listeners)

    def fail(self, error: Exception) -> None:
        """Hand the caller the error that ended the request."""
        self._error = error
        self._end()

    def _end(self) -> None:
        self._ended.set()
        self._deltas.put(None)
        self._tell(self._end_listeners)

    def _tell(self, listeners: list[Listener]) -> None:
        """Call all of them, whichever raise."""
        failures: list[Exception] = []
        for listener in listeners.copy():
            try:
                listener()
            except Exception as failure:  # noqa: BLE001 - raised below, once everyone has been told
                failures.append(failure)
        if failures:
            raise failures[0]


class Deltas(Iterator[Delta]):
    """A loop over a request's deltas. :meth:`close` cancels what is left, and so does dropping it, begun or not."""

    def __init__(self, request: Request) -> None:
        self._request: Request | None = request

    def __next__(self) -> Delta:
        if self._request is None:
            raise StopIteration
        try:
            delta = self._request.next_delta()
        except BaseException:
            self.close()
            raise
        if delta is None:
            self._request = None
            raise StopIteration
        return delta

    def close(self) -> None:
        """Read no further."""
        request, self._request = self._request, None
        if request is not None:
            request.cancel()

    def __del__(self) -> None:
        self.close()
