"""The one thread that owns the model: everything else talks to it through a queue."""

import atexit
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from attrs import define, evolve, frozen

from semantic.application.batch_engine import NO_TERMS, BlockPoolBatchEngine, Output
from semantic.application.engine_stats import EngineStats
from semantic.application.latencies import Latencies, Progress
from semantic.application.ports.telemetry import Telemetry
from semantic.application.requests import Request
from semantic.domain.errors import (
    EngineClosedError,
    EngineDownError,
    EngineDrainingError,
    EngineForkedError,
    RequestFinishedError,
    SemanticError,
    UnknownRequestError,
)
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import Completion, Delta, SamplingParams, Terms
from semantic.domain.value_objects.cache_context import DEFAULT_NAMESPACE
from semantic.domain.value_objects.percentiles import Percentiles

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
    terms: Terms = NO_TERMS
    on_end: Callable[[BlockPoolBatchEngine, Completion | None], None] = lambda engine, completion: None


@define(eq=False)
class _Live:
    """A request from its submission until its caller has heard of the end."""

    request: Request
    submission: Submission
    progress: Progress


@frozen
class _Command:
    """Something to do between two steps; ``refuse`` is called instead when the engine went down before it."""

    run: Callable[[BlockPoolBatchEngine], object]
    refuse: Callable[[Exception], None]


class OwnerThread:
    """Builds the batch engine on a thread of its own, steps it while it has work, and delivers what comes out.

    ``build`` runs on that thread. When a step fails in a way the engine can't contain, every caller gets
    :class:`EngineDownError` at once, and so does everyone who comes later. ``stirred`` is called on that thread
    whenever something was done, ``over`` at its end.
    """

    def __init__(
        self,
        build: Callable[[], BlockPoolBatchEngine],
        telemetry: Telemetry,
        *,
        stirred: Callable[[], None] = lambda: None,
        over: Callable[[], None] = lambda: None,
    ) -> None:
        self._telemetry = telemetry
        self._stirred, self._over = stirred, over
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._live: dict[RequestId, _Live] = {}  # filled where a request is submitted, emptied by the owner
        self._drains: list[Future[None]] = []
        self._process = os.getpid()
        # Guards _refusal and _is_draining against a submit that races with the end, also a finaliser's.
        self._lock = threading.RLock()
        self._refusal: Exception | None = None
        self._is_draining = False
        self._newest_id = -1
        self._counts: EngineStats
        self._latencies = Latencies()
        started: Future[BlockPoolBatchEngine] = Future()
        self._thread = threading.Thread(target=self._run, args=(build, started), name="semantic-engine", daemon=True)
        self._thread.start()
        self.engine = started.result()
        atexit.register(self.close)  # a process that ends while another thread still uses MLX aborts

    # -- from any thread -------------------------------------------------------------------------

    def submit(self, submission: Submission) -> Request:
        """Queue a request. Raises :class:`EngineDrainingError` once the engine drains, or :class:`QueueFullError`."""
        submitted_at = self.engine.clock.monotonic()

        def run(engine: BlockPoolBatchEngine) -> None:
            try:
                engine.submit(
                    submission.prompt_token_ids,
                    submission.sampling,
                    namespace=submission.namespace,
                    owner=submission.owner,
                    boundaries=submission.boundaries,
                    terms=submission.terms,
                    request_id=request.id,
                    submitted_at=submitted_at,
                )
            except Exception as error:  # noqa: BLE001 - the submitter's error, whatever it is, is the submitter's
                refuse(error)

        def refuse(error: Exception) -> None:
            if request.id in self._live:
                self._end(self._live[request.id], error)

        with self._lock:
            self.refuse_if_over()
            if self._is_draining:
                raise EngineDrainingError("the engine is draining and takes no new request; open a new one")
            self.engine.refuse_if_full(len(self._live))
            request = Request(self.engine.new_request_id(), self._request_cancel)
            self._newest_id = request.id
            self._live[request.id] = _Live(request, submission, Progress(submitted_at))
            self._commands.put(_Command(run, refuse))
        return request

    def cancel(self, request_id: RequestId) -> None:
        """Cancel the request of this id, as :meth:`Request.cancel` does.

        Raises :class:`RequestFinishedError` if it is over, :class:`UnknownRequestError` if it never was.
        """
        self.refuse_if_over()
        live = self._live.get(request_id) if isinstance(request_id, int) else None
        if live is not None:
            live.request.cancel()
        elif isinstance(request_id, int) and 0 <= request_id <= self._newest_id:
            raise RequestFinishedError(f"request {request_id} is over; there is nothing to cancel")
        else:
            raise UnknownRequestError(f"no request has the id {request_id!r}; pass Request.id of one of this engine's")

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

    def flush(self) -> "Future[None]":
        """A future that ends when all that was finished before is durable, with the error of what is not."""
        flushed = _promise()
        self._post(_Command(lambda engine: _flush_into(engine, flushed), flushed.set_exception))
        return flushed

    def drain(self) -> "Future[None]":
        """Take no new request from now on. The future ends when all there are have ended and are durable."""
        drained = _promise()
        with self._lock:
            self._post(_Command(lambda engine: self._drains.append(drained), drained.set_exception))
            self._is_draining = True
        return drained

    def stats(self) -> EngineStats:
        """Counts as of the last step, latencies as of now."""
        return evolve(
            self._counts,
            ttft_s=Percentiles.of(self._latencies.ttft_s.values()),
            token_gap_s=Percentiles.of(self._latencies.token_gap_s.values()),
            tokens_per_s=self._latencies.rate.per_second(self.engine.clock.monotonic()),
        )

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
            if request.id in self._live:
                self._deliver(engine, [engine.cancel(request.id)])

        with contextlib.suppress(
            EngineClosedError, EngineDownError, EngineForkedError
        ):  # it has ended the request already
            self._post(_Command(run, lambda _: None))

    # -- on the owner thread ---------------------------------------------------------------------

    def _run(self, build: Callable[[], BlockPoolBatchEngine], started: "Future[BlockPoolBatchEngine]") -> None:
        try:
            engine = build()
            self._counts = engine.stats()
            self._hear_of_the_store(engine)
        except BaseException as error:  # noqa: BLE001 - handed to the opener
            started.set_exception(error)
            return
        started.set_result(engine)
        try:
            self._serve(engine)
            self._deliver(engine, [engine.cancel(request_id) for request_id in list(self._live)])
            self._deliver(engine, engine.close())
            self._end_drains(lambda drained: drained.set_exception(EngineClosedError("closed before it had drained")))
        except BaseException as error:  # noqa: BLE001 - every waiting caller must hear of it
            self._go_down(engine, error)
        finally:
            self._over()
            atexit.unregister(self.close)

    def _hear_of_the_store(self, engine: BlockPoolBatchEngine) -> None:
        """Let what the store has done be noted at once, also while nothing is running."""

        command = _Command(BlockPoolBatchEngine.poll, lambda error: None)
        if engine.tier is not None:
            engine.tier.wake = lambda: self._commands.put(command)

    def _serve(self, engine: BlockPoolBatchEngine) -> None:
        while True:
            while not engine.has_work or not self._commands.empty():
                if not self._live:
                    self._end_drains(lambda drained: _flush_into(engine, drained))
                command = self._commands.get()
                if command is None:
                    return
                command.run(engine)
                self._counts = engine.stats()
                self._stirred()
                del command  # it holds its request, which holds the caller's engine
            self._deliver(engine, engine.step())

    def _deliver(self, engine: BlockPoolBatchEngine, outputs: list[Output]) -> None:
        """Publish the counts first, so that whoever has a completion sees the blocks it gave back."""
        self._counts = engine.stats()
        self._stirred()
        now = engine.clock.monotonic() if outputs else 0.0
        for output in outputs:
            live = self._live[output.request_id]
            if output.delta is not None and output.delta.token_ids:
                self._latencies.record(live.progress, len(output.delta.token_ids), now)
            if output.error is not None:
                self._end(live, output.error)
            elif output.delta is not None and output.delta.completion is not None:
                self._end(live, output.delta)
            elif output.delta is not None:
                self._hand_over(live.request, output.delta)

    def _end(self, live: _Live, end: Delta | Exception) -> None:
        """Tell whom the end concerns, the caller last; only then is the request no longer live."""
        try:
            live.submission.on_end(self.engine, end.completion if isinstance(end, Delta) else None)
        except Exception as error:  # noqa: BLE001 - a tokenizer that chokes on a reply, say: the caller hears of it
            self._telemetry.error(
                "request.end.failed", request_id=live.request.id, error=f"{type(error).__name__}: {error}"
            )
            end = end if isinstance(end, Exception) else error
        self._hand_over(live.request, end)
        del self._live[live.request.id]

    def _hand_over(self, request: Request, what: Delta | Exception) -> None:
        """Give the caller a delta or an error. A listener that raises is its own defect and nobody else's."""
        try:
            if isinstance(what, Delta):
                request.deliver(what)
            else:
                request.fail(what)
        except Exception as error:  # noqa: BLE001 - callers' code, which must not end the engine
            tell = self._telemetry.warning if isinstance(error, SemanticError) else self._telemetry.error
            tell("request.listener.failed", request_id=request.id, error=f"{type(error).__name__}: {error}")

    def _end_drains(self, end: Callable[["Future[None]"], object]) -> None:
        drains, self._drains = self._drains, []
        for drained in drains:
            end(drained)

    def _go_down(self, engine: BlockPoolBatchEngine, cause: BaseException) -> None:
        self._telemetry.error("engine.down", error=f"{type(cause).__name__}: {cause}")
        error = EngineDownError(f"the engine's thread failed: {type(cause).__name__}: {cause}; open a new engine")
        error.__cause__ = cause
        with self._lock:
            self._refusal = error
        for live in list(self._live.values()):
            self._end(live, error)
        while not self._commands.empty():
            command = self._commands.get()
            if command is not None:
                command.refuse(error)
        self._end_drains(lambda drained: drained.set_exception(error))
        with contextlib.suppress(Exception):
            if engine.tier is not None:
                engine.tier.close()
        with contextlib.suppress(Exception):
            engine.model.release()


def _promise() -> "Future[None]":
    """A future that whoever waits for it can't cancel."""
    promise: Future[None] = Future()
    promise.set_running_or_notify_cancel()
    return promise


def _flush_into(engine: BlockPoolBatchEngine, flushed: "Future[None]") -> None:
    """End ``flushed`` when the store has all it was given; without a store that is now."""
    if engine.tier is None:
        flushed.set_result(None)
        return

    def end(done: "Future[None]") -> None:
        error = done.exception()
        if error is None:
            flushed.set_result(None)
        else:
            flushed.set_exception(error)

    engine.tier.flush().add_done_callback(end)
