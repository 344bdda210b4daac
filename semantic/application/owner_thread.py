"""The one thread that owns the model: everything else talks to it through a queue."""

import atexit
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

from attrs import frozen

from semantic.application.batch_engine import BlockPoolBatchEngine, Output
from semantic.application.engine_stats import EngineStats
from semantic.application.ports.telemetry import Telemetry
from semantic.application.requests import Request
from semantic.domain.errors import EngineClosedError, EngineDownError
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import SamplingParams


@frozen
class _Command:
    """Something to do between two steps; ``refuse`` is called instead when the engine went down before it."""

    run: Callable[[BlockPoolBatchEngine], None]
    refuse: Callable[[Exception], None]


class OwnerThread:
    """Builds the batch engine on a thread of its own, steps it while it has work, and delivers what comes out.

    ``build`` runs on that thread. When a step fails in a way the engine can't contain, every caller gets
    :class:`EngineDownError` at once, and so does everyone who comes later.
    """

    def __init__(self, build: Callable[[], BlockPoolBatchEngine], telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._handles: dict[RequestId, Request] = {}
        self._lock = threading.Lock()  # guards _refusal against a submit that races with the end
        self._refusal: Exception | None = None
        self.stats: EngineStats
        started: Future[BlockPoolBatchEngine] = Future()
        self._thread = threading.Thread(target=self._run, args=(build, started), name="semantic-engine", daemon=True)
        self._thread.start()
        self.engine = started.result()
        atexit.register(self.close)  # a process that ends while another thread still uses MLX aborts

    # -- from any thread -------------------------------------------------------------------------

    def submit(self, prompt_token_ids: list[int], sampling: SamplingParams) -> Request:
        """Queue a request that :meth:`BlockPoolBatchEngine.check` has passed."""
        request = Request(self._request_cancel)

        def run(engine: BlockPoolBatchEngine) -> None:
            try:
                self._handles[engine.submit(prompt_token_ids, sampling)] = request
            except Exception as error:  # noqa: BLE001 - the submitter's error, whatever it is, is the submitter's
                request.fail(error)

        self._post(_Command(run, request.fail))
        return request

    def call(self, action: Callable[[BlockPoolBatchEngine], None]) -> None:
        """Run ``action`` on the owner thread between two steps, and wait for it."""
        done: Future[None] = Future()

        def run(engine: BlockPoolBatchEngine) -> None:
            try:
                action(engine)
            except Exception as error:  # noqa: BLE001 - handed to the caller
                done.set_exception(error)
            else:
                done.set_result(None)

        self._post(_Command(run, done.set_exception))
        done.result()

    def close(self) -> None:
        """Cancel what is left, release the model, end the thread. Closing twice is a no-op."""
        with self._lock:
            if self._refusal is None:
                self._refusal = EngineClosedError("the engine is closed; open a new one with semantic.open(...)")
                self._commands.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def refuse_if_over(self) -> None:
        """Raise what everyone gets after the end: each their own, since a traceback grows with every raise."""
        if self._refusal is not None:
            raise type(self._refusal)(*self._refusal.args) from self._refusal.__cause__

    def _post(self, command: _Command) -> None:
        with self._lock:
            self.refuse_if_over()
            self._commands.put(command)

    def _request_cancel(self, request: Request) -> None:
        def run(engine: BlockPoolBatchEngine) -> None:
            found = [request_id for request_id, handle in self._handles.items() if handle is request]
            self._deliver(engine, [engine.cancel(request_id) for request_id in found])

        with contextlib.suppress(EngineClosedError, EngineDownError):  # it has ended the request already
            self._post(_Command(run, lambda _: None))

    # -- on the owner thread ---------------------------------------------------------------------

    def _run(self, build: Callable[[], BlockPoolBatchEngine], started: "Future[BlockPoolBatchEngine]") -> None:
        try:
            engine = build()
            self.stats = engine.stats()
        except BaseException as error:  # noqa: BLE001 - handed to the opener
            started.set_exception(error)
            return
        started.set_result(engine)
        try:
            self._serve(engine)
            self._deliver(engine, engine.close())
        except BaseException as error:  # noqa: BLE001 - every waiting caller must hear of it
            self._go_down(engine, error)
        finally:
            atexit.unregister(self.close)

    def _serve(self, engine: BlockPoolBatchEngine) -> None:
        while True:
            while not engine.has_work or not self._commands.empty():
                command = self._commands.get()
                if command is None:
                    return
                command.run(engine)
                del command  # it holds its request, which holds the caller's engine
            self._deliver(engine, engine.step())

    def _deliver(self, engine: BlockPoolBatchEngine, outputs: list[Output]) -> None:
        """Publish the counts first, so that whoever has a completion sees the blocks it gave back."""
        self.stats = engine.stats()
        for output in outputs:
            handle = self._handles[output.request_id]
            if output.error is not None:
                del self._handles[output.request_id]
                handle.fail(output.error)
            elif output.delta is not None:
                if output.delta.completion is not None:
                    del self._handles[output.request_id]
                handle.deliver(output.delta)

    def _go_down(self, engine: BlockPoolBatchEngine, cause: BaseException) -> None:
        self._telemetry.error("engine.down", error=f"{type(cause).__name__}: {cause}")
        error = EngineDownError(f"the engine's thread failed: {type(cause).__name__}: {cause}; open a new engine")
        error.__cause__ = cause
        with self._lock:
            self._refusal = error
        for handle in self._handles.values():
            handle.fail(error)
        self._handles.clear()
        while not self._commands.empty():
            command = self._commands.get()
            if command is not None:
                command.refuse(error)
        with contextlib.suppress(Exception):
            engine.model.release()
