"""The one thread that owns the model: everything else talks to it through a queue."""

import atexit
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from attrs import frozen

from semantic.application.batch_engine import BlockPoolBatchEngine, Output
from semantic.application.engine_stats import EngineStats
from semantic.application.ports.telemetry import Telemetry
from semantic.application.requests import Request
from semantic.domain.errors import EngineClosedError, EngineDownError, EngineForkedError
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import Completion, SamplingParams
from semantic.domain.value_objects.cache_context import DEFAULT_NAMESPACE

Result = TypeVar("Result")


@frozen(kw_only=True)
class Submission:
    """A request that :meth:`BlockPoolBatchEngine.check` has passed, and whom it concerns.

    ``on_end`` is called on the owner thread with the completion, or with None where there is none, before the caller
    hears of the end.
    """

    prompt_token_ids: list[int]
    sampling: SamplingParams
    namespace: str = DEFAULT_NAMESPACE
    owner: object = None
    boundaries: tuple[int, ...] = ()
    on_end: Callable[[BlockPoolBatchEngine, Completion | None], None] = lambda engine, completion: None


@frozen
class _Command:
    """Something to do between two steps; ``refuse`` is called instead when the engine went down before it."""

    run: Callable[[BlockPoolBatchEngine], object]
    refuse: Callable[[Exception], None]


class OwnerThread:
    """Builds the batch engine on a thread of its own, steps it while it has work, and delivers what comes out.

    ``build`` runs on that thread. When a step fails in a way the engine can't contain, every caller gets
    :class:`EngineDownError` at once, and so does everyone who comes later.
    """

    def __init__(self, build: Callable[[], BlockPoolBatchEngine], telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._handles: dict[RequestId, tuple[Request, Submission]] = {}
        self._process = os.getpid()
        self._lock = threading.RLock()  # guards _refusal against a submit that races with the end, also a finaliser's
        self._refusal: Exception | None = None
        self.stats: EngineStats
        started: Future[BlockPoolBatchEngine] = Future()
        self._thread = threading.Thread(target=self._run, args=(build, started), name="semantic-engine", daemon=True)
        self._thread.start()
        self.engine = started.result()
        atexit.register(self.close)  # a process that ends while another thread still uses MLX aborts

    # -- from any thread -------------------------------------------------------------------------

    def submit(self, submission: Submission) -> Request:
        """Queue a request."""
        request = Request(self._request_cancel)

        def run(engine: BlockPoolBatchEngine) -> None:
            try:
                request_id = engine.submit(
                    submission.prompt_token_ids,
                    submission.sampling,
                    namespace=submission.namespace,
                    owner=submission.owner,
                    boundaries=submission.boundaries,
                )
            except Exception as error:  # noqa: BLE001 - the submitter's error, whatever it is, is the submitter's
                refuse(error)
            else:
                self._handles[request_id] = request, submission

        def refuse(error: Exception) -> None:
            submission.on_end(self.engine, None)
            request.fail(error)

        self._post(_Command(run, refuse))
        return request

    def post(self, action: Callable[[BlockPoolBatchEngine], object]) -> None:
        """Run ``action`` on the owner thread between two steps, without waiting for it. It must not raise."""
        self._post(_Command(action, lambda error: None))

    def call(self, action: Callable[[BlockPoolBatchEngine], Result]) -> Result:
        """Run ``action`` on the owner thread between two steps, and wait for what it returns."""
        done: Future[Result] = Future()

        def run(engine: BlockPoolBatchEngine) -> None:
            try:
                result = action(engine)
            except Exception as error:  # noqa: BLE001 - handed to the caller
                done.set_exception(error)
            else:
                done.set_result(result)

        self._post(_Command(run, done.set_exception))
        return done.result()

    def close(self) -> None:
        """Cancel what is left, release the model, end the thread. Closing twice is a no-op."""
        if os.getpid() != self._process:  # a fork's copy has no thread to end
            return
        with self._lock:
            if self._refusal is None:
                self._refusal = EngineClosedError("the engine is closed; open a new one with semantic.open(...)")
                self._commands.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def refuse_if_over(self) -> None:
        """Raise what everyone gets after the end: each their own, since a traceback grows with every raise."""
        if os.getpid() != self._process:
            raise EngineForkedError("this process was forked after the engine was opened; open an engine in it")
        if self._refusal is not None:
            raise type(self._refusal)(*self._refusal.args) from self._refusal.__cause__

    def _post(self, command: _Command) -> None:
        with self._lock:
            self.refuse_if_over()
            self._commands.put(command)

    def _request_cancel(self, request: Request) -> None:
        def run(engine: BlockPoolBatchEngine) -> None:
            found = [request_id for request_id, (handle, _) in self._handles.items() if handle is request]
            self._deliver(engine, [engine.cancel(request_id) for request_id in found])

        with contextlib.suppress(
            EngineClosedError, EngineDownError, EngineForkedError
        ):  # it has ended the request already
            self._post(_Command(run, lambda _: None))

    # -- on the owner thread ---------------------------------------------------------------------

    def _run(self, build: Callable[[], BlockPoolBatchEngine], started: "Future[BlockPoolBatchEngine]") -> None:
        try:
            engine = build()
            self.stats = engine.stats()
            self._hear_of_the_store(engine)
        except BaseException as error:  # noqa: BLE001 - handed to the opener
            started.set_exception(error)
            return
        started.set_result(engine)
        try:
            self._serve(engine)
            self._deliver(engine, [engine.cancel(request_id) for request_id in list(self._handles)])
            self._deliver(engine, engine.close())
        except BaseException as error:  # noqa: BLE001 - every waiting caller must hear of it
            self._go_down(engine, error)
        finally:
            atexit.unregister(self.close)

    def _hear_of_the_store(self, engine: BlockPoolBatchEngine) -> None:
        """Let what the store has done be noted at once, also while nothing is running."""

        command = _Command(BlockPoolBatchEngine.poll, lambda error: None)
        if engine.tier is not None:
            engine.tier.wake = lambda: self._commands.put(command)

    def _serve(self, engine: BlockPoolBatchEngine) -> None:
        while True:
            while not engine.has_work or not self._commands.empty():
                command = self._commands.get()
                if command is None:
                    return
                command.run(engine)
                self.stats = engine.stats()
                del command  # it holds its request, which holds the caller's engine
            self._deliver(engine, engine.step())

    def _deliver(self, engine: BlockPoolBatchEngine, outputs: list[Output]) -> None:
        """Publish the counts first, so that whoever has a completion sees the blocks it gave back."""
        self.stats = engine.stats()
        for output in outputs:
            handle, submission = self._handles[output.request_id]
            completion = output.delta.completion if output.delta is not None else None
            if output.error is not None or completion is not None:
                del self._handles[output.request_id]
                submission.on_end(engine, completion)
            if output.error is not None:
                handle.fail(output.error)
            elif output.delta is not None:
                handle.deliver(output.delta)

    def _go_down(self, engine: BlockPoolBatchEngine, cause: BaseException) -> None:
        self._telemetry.error("engine.down", error=f"{type(cause).__name__}: {cause}")
        error = EngineDownError(f"the engine's thread failed: {type(cause).__name__}: {cause}; open a new engine")
        error.__cause__ = cause
        with self._lock:
            self._refusal = error
        for handle, submission in self._handles.values():
            submission.on_end(engine, None)
            handle.fail(error)
        self._handles.clear()
        while not self._commands.empty():
            command = self._commands.get()
            if command is not None:
                command.refuse(error)
        with contextlib.suppress(Exception):
            if engine.tier is not None:
                engine.tier.close()
        with contextlib.suppress(Exception):
            engine.model.release()
