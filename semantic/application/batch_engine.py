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
from semantic.application.pacing import Pacing
from semantic.application.ports.clock import Clock
from semantic.application.ports.model import Drawn, LanguageModel
from semantic.application.ports.telemetry import Telemetry
from semantic.application.ports.tokenizer import Tokenizer
from semantic.application.request_check import check_request
from semantic.application.residency import Residency, can_preempt
from semantic.application.scheduler import Chunk, Scheduler
from semantic.application.speculation import MakeDrafter, Speculation, most_tokens_fed
from semantic.application.store_tier import StoreTier
from semantic.application.text_assembly import TextAssembler
from semantic.domain.entities import Sequence
from semantic.domain.errors import DeadlineExceededError, QueueFullError, UnknownRequestError
from semantic.domain.identifiers import RequestId
from semantic.domain.services import BlockPool
from semantic.domain.services.drafter import PromptLookupDrafter
from semantic.domain.value_objects import Delta, Priority, Reuse, SamplingParams, Terms
from semantic.domain.value_objects.cache_context import DEFAULT_NAMESPACE

NO_TERMS = Terms()

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
    prompt from its beginning. Drafts have at most ``prompt_lookup_num_tokens`` tokens; ``make_drafter`` makes them.
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
        max_waiting: int | None = None,
        max_token_gap_s: float | None = None,
        prompt_lookup_num_tokens: int = 0,
        make_drafter: MakeDrafter = PromptLookupDrafter,
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
        self._speculation = Speculation(
            model.profile,
            clock,
            num_tokens=prompt_lookup_num_tokens,
            most_fed=most_tokens_fed(max_num_seqs, prompt_lookup_num_tokens),
            make_drafter=make_drafter,
        )
        is_fixed = model.profile.reuse is Reuse.AT_CHUNKS  # a chunk of another size would say something else
        self._pacing = Pacing(None if is_fixed else max_token_gap_s, step_size)
        self._max_waiting = max_waiting
        self._requests: dict[RequestId, ActiveRequest] = {}
        self._residency = Residency(
            requests=self._requests,
            scheduler=self._scheduler,
            cache=self.cache,
            joining=Joining(self.cache.index, step_size),
            clock=clock,
            telemetry=telemetry,
            grows=model.memory.seals_in_place,  # copies of its beginning would be evicted as a sequence grows
            workspace=model.profile.workspace,
            preempts=can_preempt(self.cache.index.reuse, model.profile),
        )
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
            room_needed=self._residency.room_needed,
            has_tokenizer=self.tokenizer is not None,
        )

    def new_request_id(self) -> RequestId:
        """An id for :meth:`submit`, each once and in order; may be called from any thread."""
        return next(self._request_ids)

    def refuse_if_full(self, num_requests: int) -> None:
        """Raise :class:`QueueFullError` if, of so many requests, too many wait; may be called from any thread."""
        waiting = num_requests - len(self._scheduler.running)
        if self._max_waiting is not None and waiting >= self._max_waiting:
            raise QueueFullError(waiting, self._max_waiting)

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
        terms: Terms = NO_TERMS,
    ) -> RequestId:
        """Queue a request; :meth:`check` says what is refused. Nothing is computed before the next step.

        Only what was computed in the same ``namespace`` is used again. ``owner`` is the agent that it belongs to.
        ``boundaries`` are positions in the prompt that are worth returning to. ``request_id`` comes from
        :meth:`new_request_id` where the caller has to know it before, and ``submitted_at`` where it was asked before.
        Raises :class:`QueueFullError`, but not for a ``request_id``: who has one was promised a place.
        """
        sampling, processors = guarded(self.check(prompt_token_ids, sampling or SamplingParams()))
        if request_id is None:
            self.refuse_if_full(len(self._requests))
            request_id = self.new_request_id()
        eos = self.tokenizer.eos_token_ids if self.tokenizer else frozenset()
        block_tokens = self.model.profile.cache_spec.block_tokens
        request = ActiveRequest(
            sequence=Sequence(request_id, prompt_token_ids, sampling, block_tokens, boundaries),
            lease=self.cache.lease(self.context.root(namespace), prompt_token_ids, owner),
            text=TextAssembler(self.tokenizer.detokenizer() if self.tokenizer else None, sampling.stop),
            seed=self._random_seed() if sampling.seed is None else sampling.seed,
            stop_token_ids=eos | sampling.stop_token_ids,
            submitted_at=self.clock.monotonic() if submitted_at is None else submitted_at,
            terms=terms,
            processors=processors,
        )
        self._requests[request_id] = request
        self._scheduler.add(
            request.sequence, priority=terms.priority, client=(namespace, owner), now=request.submitted_at
        )
        return request_id

    def cancel(self, request_id: RequestId) -> Output:
        """End a request now and free its blocks. Raises :class:`UnknownRequestError` if it is not there."""
        request = self._requests.get(request_id)
        if request is None:
            raise UnknownRequestError(f"request {request_id} is neither waiting nor running")
        try:
            piece = request.text.finish()
        except Exception as error:  # noqa: BLE001 - a tokenizer that chokes ends this request alone
            return self._fail(request, error)
        request.sequence.cancel()
        return self._conclude(request, (), piece)

    # -- the step --------------------------------------------------------------------------------

    def step(self) -> list[Output]:
        """Schedule, prefill at most one chunk's worth of tokens, decode every running row once, commit.

        Returns what came of it. A forward that fails ends the requests that took part in it; the others go on.
        """
        self._counts["steps"] += 1
        self.poll()
        outputs = self._give_up_late_ones()
        self._residency.admit()
        self._residency.prefetch()
        self._residency.grow()
        begun, is_decoding = self.clock.monotonic(), bool(self._scheduler.rows())
        chunks = self._scheduler.chunks(self._pacing.limit(is_decoding=is_decoding), begun)
        outputs += [output for chunk in chunks for output in self._prefill(chunk)]
        rows = [sequence for sequence in self._scheduler.rows() if sequence.room]
        if self.tier is not None and not chunks and not rows:
            self.tier.wait(_WAIT_FOR_STORE_S)  # all that is left to do is on its way to or from the store
        outputs += self._decode(rows)
        if is_decoding and chunks:
            num_tokens = sum(len(chunk.token_ids) for chunk in chunks)
            self._pacing.note(num_tokens, self.clock.monotonic() - begun)
        return outputs

    def poll(self) -> None:
        """Take note of what the store has done meanwhile."""
        if self.tier is not None:
            self.tier.poll()

    def _give_up_late_ones(self) -> list[Output]:
        now = self.clock.monotonic()
        return [self._give_up(request) for request in list(self._requests.values()) if request.is_late(now)]

    # -- forward and commit ------------------------------------------------------------------------

    def _prefill(self, chunk: Chunk) -> list[Output]:
        sequence = chunk.sequence
        request = self._requests[sequence.request_id]
        try:
            self.model.prefill(request.lease.cache, chunk.token_ids)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is this request's end, not the engine's
            return [self._fail(request, error)]
        sequence.commit_chunk(len(chunk.token_ids))
        self._counts["prefilled_tokens"] += len(chunk.token_ids)
        self._scheduler.charge(sequence, request.newly_computed(len(chunk.token_ids)))
        self.cache.sealing.prefilled(sequence, request.lease)
        return []

    def _decode(self, sequences: list[Sequence]) -> list[Output]:
        requests = [self._requests[sequence.request_id] for sequence in sequences]
        if not requests:
            return []
        rows = self._speculation.rows(requests)
        try:
            draws = self.model.decode(rows)
        except Exception as error:  # noqa: BLE001 - as above; a half-written batch can't be trusted any more
            return [self._fail(request, error) for request in requests]
        self._speculation.learn(requests, rows, draws)
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
        self._scheduler.charge(sequence, request.newly_computed(len(token_ids)))
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

    def _give_up(self, request: ActiveRequest) -> Output:
        """End a request whose deadline has passed; what it computed is kept."""
        try:
            request.text.finish()
        except Exception as error:  # noqa: BLE001 - as above
            return self._fail(request, error)
        request.sequence.cancel()
        completion = request.completion(self.clock.monotonic())
        self._end(request, keep=True)
        assert request.terms.deadline_s is not None, request
        self._telemetry.warning(
            "request.late", request_id=request.sequence.request_id, **attrs.asdict(completion.usage)
        )
        return Output(request.sequence.request_id, error=DeadlineExceededError(request.terms.deadline_s, completion))

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
        self._residency.forget(request.sequence.request_id)
        self.cache.finish(request.sequence, request.lease, keep=keep)

    # -- facts -----------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """The engine's counts."""
        cache, transfer = self.cache.stats, self.cache.transfer
        return EngineStats(
            waiting=len(self._scheduler.waiting),
            waiting_in_background=self._scheduler.waiting_by_priority()[Priority.BACKGROUND],
            preempted=sum(sequence.num_preemptions > 0 for sequence in self._scheduler.waiting),
            preemptions=self._residency.preemptions,
            running=len(self._scheduler.running),
            pool_total_blocks=self.pool.total_blocks,
            pool_free_blocks=self.pool.num_available,
            pool_cached_blocks=self.pool.num_evictable,
            pool_blocks_in_use=self.pool.num_in_use,
            block_bytes=self.model.profile.cache_spec.bytes_per_block,
            live_bytes=transfer.bytes_of(self.pool.weight_in_use),
            resident_bytes=transfer.bytes_of(self.pool.weight_kept - self.pool.weight_in_use),
            cache_bytes=self.model.memory.nbytes,
            weight_bytes=self.model.profile.weight_bytes,
            prompt_tokens=cache.looked_up_tokens,
            cached_tokens_from_memory=cache.memory_tokens,
            cached_tokens_from_store=cache.store_tokens,
            evicted_blocks=transfer.evicted_blocks,
            loaded_blocks=transfer.loaded_blocks,
            lost_blocks=transfer.lost_blocks,
            drafted_tokens=self._speculation.drafted_tokens,
            accepted_tokens=self._speculation.accepted_tokens,
            store=self.tier.stats() if self.tier is not None else None,
            steps=self._counts["steps"],
            prefilled_tokens=self._counts["prefilled_tokens"],
            generated_tokens=self._counts["generated_tokens"],
            finished_requests=self._counts["finished_requests"],
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
