"""The batch engine: many sequences, one model, one block pool. One step is schedule, forward, commit."""

from collections.abc import Callable
from secrets import randbits

import attrs
from attrs import define, frozen

from semantic.application.ports.clock import Clock
from semantic.application.ports.model import DecodeRow, LanguageModel, SequenceCache
from semantic.application.ports.telemetry import Telemetry
from semantic.application.ports.tokenizer import Tokenizer
from semantic.application.scheduler import Chunk, Scheduler, blocks_needed
from semantic.application.text_assembly import TextAssembler
from semantic.domain.entities import Sequence
from semantic.domain.errors import (
    EmptyPromptError,
    InvalidRequestError,
    PromptTooLongError,
    RequestTooLargeError,
    TokenizerRequiredError,
    TokenOutOfVocabularyError,
    UnknownRequestError,
)
from semantic.domain.identifiers import RequestId
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import (
    Completion,
    Delta,
    FinishReason,
    SamplingParams,
    Timings,
    Usage,
)


@frozen
class Output:
    """What a step has for one request: a delta, or the error that ended it."""

    request_id: RequestId
    delta: Delta | None = None
    error: Exception | None = None


@frozen
class EngineStats:
    """Counts of the engine now, and since it was opened. Bytes: ``cache_bytes`` KV memory, ``weight_bytes`` model."""

    waiting: int
    running: int
    pool_total_blocks: int
    pool_free_blocks: int
    pool_blocks_in_use: int
    cache_bytes: int
    weight_bytes: int
    steps: int
    prefilled_tokens: int
    generated_tokens: int
    finished_requests: int


@define(eq=False)
class _Request:
    """A sequence with what the engine needs to serve it."""

    sequence: Sequence
    cache: SequenceCache
    text: TextAssembler
    seed: int
    stop_token_ids: frozenset[int]
    submitted_at: float
    first_token_at: float = 0.0


class BlockPoolBatchEngine:
    """Submit requests, call :meth:`step` until :attr:`has_work` is false, collect the outputs.

    Sequences join and leave the batch at any step. Not thread-safe: one thread owns the engine and its model; the
    :class:`~semantic.application.engine.Engine` puts such a thread around it.
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
        random_seed: Callable[[], int] = lambda: randbits(63),
    ) -> None:
        self.model, self.tokenizer, self.pool = model, tokenizer, pool
        self._clock, self._telemetry = clock, telemetry
        self._random_seed = random_seed
        self._scheduler = Scheduler(pool, max_num_seqs=max_num_seqs, prefill_step_size=model.profile.prefill_step_size)
        self._requests: dict[RequestId, _Request] = {}
        self._next_id = 0
        self._counts = {"steps": 0, "prefilled_tokens": 0, "generated_tokens": 0, "finished_requests": 0}

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running."""
        return bool(self._requests)

    # -- requests --------------------------------------------------------------------------------

    def check(self, prompt_token_ids: list[int], sampling: SamplingParams) -> SamplingParams:
        """Refuse what can never be served; may be called from any thread.

        Returns ``sampling`` with ``max_tokens`` cut to what the model's context leaves. Raises
        :class:`EmptyPromptError`, :class:`TokenOutOfVocabularyError`, :class:`PromptTooLongError`,
        :class:`RequestTooLargeError`, :class:`TokenizerRequiredError`, or their base :class:`InvalidRequestError`.
        """
        profile = self.model.profile
        if not prompt_token_ids:
            raise EmptyPromptError("the prompt has no tokens; pass a non-empty string, token ids or messages")
        for position, token_id in enumerate(prompt_token_ids):
            if not isinstance(token_id, int):
                raise InvalidRequestError(f"token id {token_id!r} at position {position} is not an integer")
            if not 0 <= token_id < profile.vocab_size:
                raise TokenOutOfVocabularyError(token_id, position, profile.vocab_size)
        if sampling.top_k >= profile.vocab_size:
            raise InvalidRequestError(
                f"top_k must be smaller than the vocabulary ({profile.vocab_size}), got {sampling.top_k}; 0 keeps all"
            )
        if sampling.stop and self.tokenizer is None:
            raise TokenizerRequiredError("stop strings need a tokenizer; pass stop_token_ids instead")
        if profile.context_length is not None:
            room = profile.context_length - len(prompt_token_ids)
            if room <= 0:
                raise PromptTooLongError(len(prompt_token_ids), profile.context_length)
            sampling = attrs.evolve(sampling, max_tokens=min(sampling.max_tokens, room))
        needed = blocks_needed(self._sequence(RequestId(-1), prompt_token_ids, sampling))
        if needed > self.pool.total_blocks:
            raise RequestTooLargeError(needed, self.pool.total_blocks, profile.cache_spec.block_tokens)
        return sampling

    def submit(self, prompt_token_ids: list[int], sampling: SamplingParams | None = None) -> RequestId:
        """Queue a request; :meth:`check` says what is refused. Nothing is computed before the next step."""
        sampling = self.check(prompt_token_ids, sampling or SamplingParams())
        request_id = RequestId(self._next_id)
        self._next_id += 1
        eos = self.tokenizer.eos_token_ids if self.tokenizer else frozenset()
        request = _Request(
            sequence=self._sequence(request_id, prompt_token_ids, sampling),
            cache=self.model.memory.open(),
            text=TextAssembler(self.tokenizer.detokenizer() if self.tokenizer else None, sampling.stop),
            seed=self._random_seed() if sampling.seed is None else sampling.seed,
            stop_token_ids=eos | sampling.stop_token_ids,
            submitted_at=self._clock.monotonic(),
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
        self._admit()
        outputs = [output for chunk in self._scheduler.chunks() for output in self._prefill(chunk)]
        return outputs + self._decode(self._scheduler.rows())

    def _admit(self) -> None:
        for sequence in self._scheduler.admit():
            cache = self._requests[sequence.request_id].cache
            self.model.memory.attach(cache, sequence.block_table.block_ids)

    def _prefill(self, chunk: Chunk) -> list[Output]:
        request = self._requests[chunk.sequence.request_id]
        try:
            self.model.prefill(request.cache, chunk.token_ids)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is this request's end, not the engine's
            return [self._fail(request, error)]
        chunk.sequence.commit_chunk(len(chunk.token_ids))
        self._counts["prefilled_tokens"] += len(chunk.token_ids)
        return []

    def _decode(self, sequences: list[Sequence]) -> list[Output]:
        requests = [self._requests[sequence.request_id] for sequence in sequences]
        if not requests:
            return []
        try:
            tokens = self.model.decode([self._row(request) for request in requests])
        except Exception as error:  # noqa: BLE001 - as above; a half-written batch can't be trusted any more
            return [self._fail(request, error) for request in requests]
        return [self._commit(request, token) for request, token in zip(requests, tokens, strict=True)]

    def _row(self, request: _Request) -> DecodeRow:
        sequence = request.sequence
        return DecodeRow(
            cache=request.cache,
            token_id=sequence.last_token,
            sampling=sequence.sampling,
            seed=request.seed,
            index=len(sequence.output_token_ids),
        )

    def _commit(self, request: _Request, token: int) -> Output:
        """Take one drawn token into the request: text, stops, limit."""
        sequence, text = request.sequence, request.text
        if not sequence.output_token_ids and not request.first_token_at:
            request.first_token_at = self._clock.monotonic()
        if token in request.stop_token_ids:
            sequence.finish(FinishReason.STOP)
            return self._conclude(request, (), text.finish())
        try:
            piece = text.add(token)
        except Exception as error:  # noqa: BLE001 - a tokenizer that chokes on a token ends this request alone
            return self._fail(request, error)
        sequence.append(token)
        self._counts["generated_tokens"] += 1
        if not text.stopped and sequence.num_tokens < sequence.max_total_tokens:
            return Output(sequence.request_id, Delta(piece, (token,)))
        piece += text.finish()
        sequence.finish(FinishReason.STOP if text.stopped else FinishReason.LENGTH)
        return self._conclude(request, (token,), piece)

    # -- ends ------------------------------------------------------------------------------------

    def _conclude(self, request: _Request, token_ids: tuple[int, ...], piece: str) -> Output:
        completion = self._completion(request)
        self._free(request)
        self._counts["finished_requests"] += 1
        self._telemetry.event(
            "request.finished",
            request_id=request.sequence.request_id,
            finish_reason=str(completion.finish_reason),
            **attrs.asdict(completion.usage),
            **attrs.asdict(completion.timings),
        )
        return Output(request.sequence.request_id, Delta(piece, token_ids, completion))

    def _fail(self, request: _Request, error: Exception) -> Output:
        request.sequence.fail()
        self._free(request)
        self._telemetry.error(
            "request.failed", request_id=request.sequence.request_id, error=f"{type(error).__name__}: {error}"
        )
        return Output(request.sequence.request_id, error=error)

    def _free(self, request: _Request) -> None:
        del self._requests[request.sequence.request_id]
        self._scheduler.remove(request.sequence)
        self.model.memory.close(request.cache)
        blocks = request.sequence.block_table.clear()
        self.model.memory.discard(self.pool.release(reversed(blocks)).freed)

    def _completion(self, request: _Request) -> Completion:
        sequence, now = request.sequence, self._clock.monotonic()
        assert sequence.finish_reason is not None, sequence
        drawn = len(sequence.output_token_ids)
        decode_s = now - request.first_token_at
        return Completion(
            text=request.text.text,
            token_ids=tuple(sequence.output_token_ids),
            finish_reason=sequence.finish_reason,
            usage=Usage(sequence.num_prompt_tokens, 0, drawn),
            timings=Timings(
                ttft_s=(request.first_token_at or now) - request.submitted_at,
                decode_tokens_per_s=(drawn - 1) / decode_s if drawn > 1 and decode_s > 0 else 0.0,
            ),
        )

    # -- facts -----------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """The engine's counts."""
        return EngineStats(
            waiting=len(self._scheduler.waiting),
            running=len(self._scheduler.running),
            pool_total_blocks=self.pool.total_blocks,
            pool_free_blocks=self.pool.num_free,
            pool_blocks_in_use=self.pool.num_in_use,
            cache_bytes=self.model.memory.nbytes,
            weight_bytes=self.model.profile.weight_bytes,
            **self._counts,
        )

    def close(self) -> list[Output]:
        """Cancel every request and release the model. Closing twice is a no-op."""
        outputs = [self.cancel(request_id) for request_id in list(self._requests)]
        self.pool.check_integrity()
        self.model.release()
        return outputs

    def _sequence(self, request_id: RequestId, prompt_token_ids: list[int], sampling: SamplingParams) -> Sequence:
        return Sequence(request_id, prompt_token_ids, sampling, self.model.profile.cache_spec.block_tokens)
