"""The batch engine: many sequences, one model, one block pool. One step is schedule, forward, commit."""

from collections.abc import Callable, Iterable
from itertools import count
from secrets import randbits

import attrs
from attrs import frozen

from semantic.application.active_request import ActiveRequest
from semantic.application.engine_stats import EngineStats
from semantic.application.guarded_processors import guarded
from semantic.application.joining import Joining
from semantic.application.make_cache import cache_context, make_prefix_cache
from semantic.application.ports.clock import Clock
from semantic.application.ports.model import Drawn, LanguageModel
from semantic.application.ports.telemetry import Telemetry
from semantic.application.ports.tokenizer import Tokenizer
from semantic.application.request_check import check_request
from semantic.application.scheduler import Admission, Chunk, Scheduler
from semantic.application.store_tier import StoreTier
from semantic.application.text_assembly import TextAssembler
from semantic.domain.entities import Sequence
from semantic.domain.errors import UnknownRequestError
from semantic.domain.identifiers import RequestId
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import Delta, SamplingParams
from semantic.domain.value_objects.cache_context import DEFAULT_NAMESPACE

_WAIT_FOR_STORE_S = 0.05


@frozen
class Output:
    """What a step has for one request: a delta, or the error that ended it."""

    request_id: RequestId
    delta: Delta | None = None
    error: Exception | None = None


class BlockPoolBatchEngine:
    """Submit requests, call :meth:`step` until :attr:`has_work` is false, collect the outputs.

    Sequences join and leave the batch at any step. Not thread-safe: one thread owns the engine and its model; the
    :class:`~semantic.application.engine.Engine` puts such a thread around it. ``prefix_caching=False`` computes every
    prompt from its beginning.
    """

    def __init__(
        self,
        *,
        model: LanguageModel,
        tokenizer: Tokenizer | None,
        pool: BlockPool,
        clock: Clock,
        telemetry: Telemetry,
        max_num_seqs: int = 16,
        prefix_caching: bool = True,
        tier: StoreTier | None = None,
        random_seed: Callable[[], int] = lambda: randbits(63),
    ) -> None:
        self.model, self.tokenizer, self.pool = model, tokenizer, pool
        self.context = cache_context(model.profile)
        self.cache = make_prefix_cache(model, pool, tier, telemetry, prefix_caching=prefix_caching)
        self.tier = tier
        self.clock, self._telemetry = clock, telemetry
        self._random_seed = random_seed
        step_size = model.profile.prefill_step_size
        self._scheduler = Scheduler(max_num_seqs=max_num_seqs, prefill_step_size=step_size)
        self._joining = Joining(self.cache.index, step_size)
        self._requests: dict[RequestId, ActiveRequest] = {}
        self._request_ids = map(RequestId, count())
        self._counts = {"steps": 0, "prefilled_tokens": 0, "generated_tokens": 0, "finished_requests": 0}

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running."""
        return bool(self._requests)

    # -- requests --------------------------------------------------------------------------------

    def check(self, prompt_token_ids: list[int], sampling: SamplingParams) -> SamplingParams:
        """Refuse what can never be served, as :func:`check_request` says; may be called from any thread."""
        return check_request(
            prompt_token_ids,
            sampling,
            self.model.profile,
            total_blocks=self.pool.total_blocks,
            has_tokenizer=self.tokenizer is not None,
        )

    def new_request_id(self) -> RequestId:
        """An id for :meth:`submit`, each once and in order; may be called from any thread."""
        return next(self._request_ids)

    def submit(
        self,
        prompt_token_ids: list[int],
        sampling: SamplingParams | None = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        owner: object = None,
        boundaries: Iterable[int] = (),
        request_id: RequestId | None = None,
        submitted_at: float | None = None,
    ) -> RequestId:
        """Queue a request; :meth:`check` says what is refused. Nothing is computed before the next step.

        Only what was computed in the same ``namespace`` is used again. ``owner`` is the agent that it belongs to.
        ``boundaries`` are positions in the prompt that are worth returning to. ``request_id`` comes from
        :meth:`new_request_id` where the caller has to know it before, and ``submitted_at`` where it was asked before.
        """
        sampling, processors = guarded(self.check(prompt_token_ids, sampling or SamplingParams()))
        request_id = self.new_request_id() if request_id is None else request_id
        eos = self.tokenizer.eos_token_ids if self.tokenizer else frozenset()
        block_tokens = self.model.profile.cache_spec.block_tokens
        request = ActiveRequest(
            sequence=Sequence(request_id, prompt_token_ids, sampling, block_tokens, boundaries),
            lease=self.cache.lease(self.context.root(namespace), prompt_token_ids, owner),
            text=TextAssembler(self.tokenizer.detokenizer() if self.tokenizer else None, sampling.stop),
            seed=self._random_seed() if sampling.seed is None else sampling.seed,
            stop_token_ids=eos | sampling.stop_token_ids,
            submitted_at=self.clock.monotonic() if submitted_at is None else submitted_at,
            processors=processors,
        )
        self._requests[request_id] = request
        self._scheduler.add(request.sequence)
        return request_id

    def cancel(self, request_id: RequestId) -> Output:
        """End a request now and free its blocks. Raises :class:`UnknownRequestError` if it is not there."""
        request = self._requests.get(request_id)
        if request is None:
            raise UnknownRequestError(f"request {request_id} is neither waiting nor running")
        request.sequence.cancel()
        return self._conclude(request, (), request.text.finish())

    # -- the step --------------------------------------------------------------------------------

    def step(self) -> list[Output]:
        """Schedule, prefill at most one chunk's worth of tokens, decode every running row once, commit.

        Returns what came of it. A forward that fails ends the requests that took part in it; the others go on.
        """
        self._counts["steps"] += 1
        self.poll()
        self._scheduler.admit(self._try_to_admit)
        self._prefetch()
        chunks = self._scheduler.chunks()
        outputs = [output for chunk in chunks for output in self._prefill(chunk)]
        rows = self._scheduler.rows()
        if self.tier is not None and not chunks and not rows:
            self.tier.wait(_WAIT_FOR_STORE_S)  # all that is left to do is on its way from the store
        return outputs + self._decode(rows)

    def poll(self) -> None:
        """Take note of what the store has done meanwhile."""
        if self.tier is not None:
            self.tier.poll()

    def _try_to_admit(self, sequence: Sequence) -> Admission:
        request = self._requests[sequence.request_id]
        running = [(other, self._requests[other.request_id].lease) for other in self._scheduler.running]
        cached = self.cache.match(request.lease, sequence.num_prefill_tokens).num_tokens
        if self._joining.is_worth_waiting(sequence, request.lease, cached, running):
            return Admission.HELD_BACK

        def settled(ok: bool) -> None:
            if not ok:
                sequence.wait()
                self._scheduler.put_back(sequence)

        admitted = self.cache.acquire(sequence, request.lease, settled)
        if not admitted and not running and self.cache.unpin_all():
            self._telemetry.warning("cache.pins.dropped", request_id=sequence.request_id, reason="nothing else fits")
            admitted = self.cache.acquire(sequence, request.lease, settled)
        return Admission.ADMITTED if admitted else Admission.NO_ROOM

    def _prefetch(self) -> None:
        """Bring from the store what those will need who have to wait for their turn."""
        if self.tier is None:
            return
        for sequence in self._scheduler.waiting:
            request = self._requests[sequence.request_id]
            if not request.is_prefetched:
                request.is_prefetched = True
                self.cache.prefetch(request.lease, sequence.num_prefill_tokens)

    def _prefill(self, chunk: Chunk) -> list[Output]:
        sequence = chunk.sequence
        request = self._requests[sequence.request_id]
        try:
            self.model.prefill(request.lease.cache, chunk.token_ids)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is this request's end, not the engine's
            return [self._fail(request, error)]
        sequence.commit_chunk(len(chunk.token_ids))
        self._counts["prefilled_tokens"] += len(chunk.token_ids)
        self.cache.sealing.prefilled(sequence, request.lease)
        return []

    def _decode(self, sequences: list[Sequence]) -> list[Output]:
        requests = [self._requests[sequence.request_id] for sequence in sequences]
        if not requests:
            return []
        try:
            draws = self.model.decode([request.row() for request in requests])
        except Exception as error:  # noqa: BLE001 - as above; a half-written batch can't be trusted any more
            return [self._fail(request, error) for request in requests]
        return [self._commit(request, drawn) for request, drawn in zip(requests, draws, strict=True)]

    def _commit(self, request: ActiveRequest, draws: tuple[Drawn, ...]) -> Output:
        """Take what was drawn into the request, up to a stop or the limit."""
        sequence, text, start = request.sequence, "", len(request.sequence.output_token_ids)
        for drawn in draws:
            sequence.commit_row()
            self.cache.sealing.decoded(sequence, request.lease)
            if not request.first_token_at:
                request.first_token_at = self.clock.monotonic()
            try:
                text += request.take(drawn)
            except Exception as error:  # noqa: BLE001 - a tokenizer that chokes on a token ends this request alone
                return self._fail(request, error)
            if sequence.is_finished:
                break
        token_ids = tuple(sequence.output_token_ids[start:])
        self._counts["generated_tokens"] += len(token_ids)
        if sequence.is_finished:
            return self._conclude(request, token_ids, text)
        return Output(sequence.request_id, Delta(text, token_ids, logprobs=request.logprobs_from(start)))

    # -- ends ------------------------------------------------------------------------------------

    def _conclude(self, request: ActiveRequest, token_ids: tuple[int, ...], piece: str) -> Output:
        completion = request.completion(self.clock.monotonic())
        self._end(request, keep=True)
        self._counts["finished_requests"] += 1
        self._telemetry.event(
            "request.finished",
            request_id=request.sequence.request_id,
            finish_reason=str(completion.finish_reason),
            **attrs.asdict(completion.usage),
            **attrs.asdict(completion.timings),
        )
        logprobs = request.logprobs_from(len(request.logprobs) - len(token_ids))
        return Output(request.sequence.request_id, Delta(piece, token_ids, completion, logprobs))

    def _fail(self, request: ActiveRequest, error: Exception) -> Output:
        request.sequence.fail()
        self._end(request, keep=False)
        self._telemetry.error(
            "request.failed", request_id=request.sequence.request_id, error=f"{type(error).__name__}: {error}"
        )
        return Output(request.sequence.request_id, error=error)

    def _end(self, request: ActiveRequest, *, keep: bool) -> None:
        del self._requests[request.sequence.request_id]
        self._scheduler.remove(request.sequence)
        self._joining.forget(request.sequence.request_id)
        self.cache.finish(request.sequence, request.lease, keep=keep)

    # -- facts -----------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """The engine's counts."""
        cache, transfer = self.cache.stats, self.cache.transfer
        return EngineStats(
            waiting=len(self._scheduler.waiting),
            running=len(self._scheduler.running),
            pool_total_blocks=self.pool.total_blocks,
            pool_free_blocks=self.pool.num_available,
            pool_cached_blocks=self.pool.num_evictable,
            pool_blocks_in_use=self.pool.num_in_use,
            block_bytes=self.model.profile.cache_spec.bytes_per_block,
            cache_bytes=self.model.memory.nbytes,
            weight_bytes=self.model.profile.weight_bytes,
            prompt_tokens=cache.looked_up_tokens,
            cached_tokens_from_memory=cache.memory_tokens,
            cached_tokens_from_store=cache.store_tokens,
            evicted_blocks=transfer.evicted_blocks,
            loaded_blocks=transfer.loaded_blocks,
            lost_blocks=transfer.lost_blocks,
            store=self.tier.stats() if self.tier is not None else None,
            **self._counts,
        )

    def close(self) -> list[Output]:
        """Cancel every request, make what was kept durable, and release the model. Closing twice is a no-op."""
        outputs = [self.cancel(request_id) for request_id in list(self._requests)]
        if self.tier is not None:
            self.tier.close()
            self.tier.poll()
        self.cache.unpin_all()
        self.pool.check_integrity()
        self.model.release()
        return outputs
