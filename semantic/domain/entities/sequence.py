"""One request on its way from prompt to completion."""

from collections.abc import Iterable
from enum import StrEnum

from semantic.domain.entities.block_table import BlockTable
from semantic.domain.errors import EmptyPromptError, InvalidTransitionError
from semantic.domain.identifiers import BlockId, RequestId
from semantic.domain.value_objects.completion import FinishReason
from semantic.domain.value_objects.sampling import SamplingParams


class SequenceState(StrEnum):
    """Where a sequence stands. The last three are final."""

    WAITING = "waiting"
    LOADING = "loading"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


class SequenceEvent(StrEnum):
    """What can happen to a sequence."""

    ADMIT = "be admitted"
    BEGIN = "begin"
    WAIT = "wait again"
    PREEMPT = "be preempted"
    PREFILLED = "end its prefill"
    FINISH = "finish"
    CANCEL = "be cancelled"
    FAIL = "fail"


_S, _E = SequenceState, SequenceEvent

# What is not in the table is refused.
TRANSITIONS: dict[tuple[SequenceState, SequenceEvent], SequenceState] = {
    (_S.WAITING, _E.ADMIT): _S.LOADING,
    (_S.WAITING, _E.CANCEL): _S.CANCELLED,
    (_S.WAITING, _E.FAIL): _S.FAILED,
    (_S.LOADING, _E.BEGIN): _S.PREFILLING,
    (_S.LOADING, _E.WAIT): _S.WAITING,
    (_S.LOADING, _E.CANCEL): _S.CANCELLED,
    (_S.LOADING, _E.FAIL): _S.FAILED,
    (_S.PREFILLING, _E.PREFILLED): _S.DECODING,
    (_S.PREFILLING, _E.PREEMPT): _S.WAITING,
    (_S.PREFILLING, _E.CANCEL): _S.CANCELLED,
    (_S.PREFILLING, _E.FAIL): _S.FAILED,
    (_S.DECODING, _E.PREEMPT): _S.WAITING,
    (_S.DECODING, _E.FINISH): _S.FINISHED,
    (_S.DECODING, _E.CANCEL): _S.CANCELLED,
    (_S.DECODING, _E.FAIL): _S.FAILED,
}
FINAL_STATES = frozenset({_S.FINISHED, _S.CANCELLED, _S.FAILED})


class Sequence:
    """The tokens, blocks and state of one request.

    The tokens are the prompt followed by the output; those at positions [0, ``num_computed_tokens``) have
    their keys and values in the cache. Of the prompt, a prefix may be cached; prefill computes the rest but for the
    last token, which is the first decode row, so while decoding exactly one token is not computed: ``last_token``.
    A sequence that was preempted begins again in the same way with all tokens that it had by then.

    ``boundaries`` are positions of the prompt at which a chunk has to end, because its context may be taken up there.

    A verb that the present state does not allow raises :class:`InvalidTransitionError` and changes nothing.
    Raises :class:`EmptyPromptError` without a prompt.
    """

    def __init__(
        self,
        request_id: RequestId,
        prompt_token_ids: Iterable[int],
        sampling: SamplingParams,
        block_tokens: int,
        boundaries: Iterable[int] = (),
    ) -> None:
        self.request_id = request_id
        self.prompt_token_ids = tuple(prompt_token_ids)
        self.sampling = sampling
        self.block_table = BlockTable(block_tokens)
        self.output_token_ids: list[int] = []
        self.boundaries = set(boundaries)
        self.num_computed_tokens = 0
        self.num_cached_tokens = 0
        self.num_preemptions = 0
        self._begins_with = len(self.prompt_token_ids)
        self.state = SequenceState.WAITING
        self.finish_reason: FinishReason | None = None
        if not self.prompt_token_ids:
            raise EmptyPromptError("the prompt has no tokens; a sequence needs at least one")

    def __repr__(self) -> str:
        return (
            f"<Sequence {self.request_id} {self.state}: {self.num_prompt_tokens} prompt and "
            f"{len(self.output_token_ids)} output tokens, "
            f"{self.num_computed_tokens} computed, {len(self.block_table)} blocks>"
        )

    # -- facts -----------------------------------------------------------------------------------

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt_token_ids)

    @property
    def num_prefill_tokens(self) -> int:
        """Tokens that prefill computes: those that the sequence begins with, but for the last."""
        return self._begins_with - 1

    @property
    def num_tokens(self) -> int:
        """Prompt and output together."""
        return self.num_prompt_tokens + len(self.output_token_ids)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Prompt and output."""
        return (*self.prompt_token_ids, *self.output_token_ids)

    @property
    def max_total_tokens(self) -> int:
        """What :attr:`num_tokens` is at most; the last of them is never fed, so the cache holds one less."""
        return self.num_prompt_tokens + self.sampling.max_tokens

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen: finished, cancelled or failed."""
        return self.state in FINAL_STATES

    @property
    def room(self) -> int:
        """Tokens that its blocks can still take."""
        return self.block_table.capacity_tokens - self.num_computed_tokens

    @property
    def last_token(self) -> int:
        """The token that the next decode step feeds: the last of the prompt, then of the output."""
        self._require(SequenceState.DECODING, "decode")
        return self.output_token_ids[-1] if self.output_token_ids else self.prompt_token_ids[-1]

    # -- verbs -----------------------------------------------------------------------------------

    def admit(self, block_ids: Iterable[BlockId]) -> None:
        """Give the sequence its blocks; what is cached of its prompt may still have to be loaded."""
        self._fire(SequenceEvent.ADMIT)
        self.block_table.extend(block_ids)

    def begin(self, num_cached_tokens: int = 0) -> None:
        """Start prefill behind a cached prefix; where nothing is left to prefill, decoding starts at once."""
        self._require(SequenceState.LOADING, SequenceEvent.BEGIN)
        assert 0 <= num_cached_tokens <= self.num_prefill_tokens, f"{self!r}: {num_cached_tokens} cached"
        assert num_cached_tokens <= self.block_table.capacity_tokens, f"{self!r}: {num_cached_tokens} do not fit"
        self._fire(SequenceEvent.BEGIN)
        self.num_computed_tokens = num_cached_tokens
        if not self.num_preemptions:
            self.num_cached_tokens = num_cached_tokens
        self._end_prefill_when_done()

    def wait(self) -> None:
        """Be admitted again later: what was cached could not be loaded. The table must be empty."""
        self._require(SequenceState.LOADING, SequenceEvent.WAIT)
        assert not len(self.block_table), f"{self!r}: it still has blocks"
        self._fire(SequenceEvent.WAIT)

    def grow(self, block_ids: Iterable[BlockId]) -> None:
        """Give a running sequence more blocks."""
        assert self.state in (SequenceState.PREFILLING, SequenceState.DECODING), f"{self!r} does not run"
        self.block_table.extend(block_ids)

    def preempt(self) -> None:
        """Wait again with the tokens it has, its blocks given up. The table must be empty."""
        assert not len(self.block_table), f"{self!r}: it still has blocks"
        self._fire(SequenceEvent.PREEMPT)
        self.num_computed_tokens = 0
        self.num_preemptions += 1
        self._begins_with = self.num_tokens

    def next_chunk(self, limit: int) -> tuple[int, ...]:
        """The next tokens to prefill, at most ``limit``, up to the next multiple of ``limit`` or boundary.

        So chunks end at the same places whatever was cached.
        """
        self._require(SequenceState.PREFILLING, "prefill")
        assert limit > 0, f"a chunk of {limit} tokens would never end"
        start = self.num_computed_tokens
        ends = [start - start % limit + limit, self.num_prefill_tokens, *self.boundaries]
        return self.token_ids[start : min(end for end in ends if end > start)]

    def commit_chunk(self, num_tokens: int) -> None:
        """Record that the next ``num_tokens`` tokens are in the cache; the last chunk ends prefill."""
        self._require(SequenceState.PREFILLING, "commit a chunk")
        computed = self.num_computed_tokens + num_tokens
        assert self.num_computed_tokens < computed <= self.num_prefill_tokens, f"{self!r}: chunk of {num_tokens}"
        assert computed <= self.block_table.capacity_tokens, f"{self!r}: {computed} tokens do not fit the blocks"
        self.num_computed_tokens = computed
        self._end_prefill_when_done()

    def commit_row(self) -> None:
        """Record that a decode step has put :attr:`last_token` into the cache."""
        self._require(SequenceState.DECODING, "commit a row")
        computed = self.num_computed_tokens + 1
        assert computed == self.num_tokens, f"{self!r}: the row was committed before"
        assert computed <= self.block_table.capacity_tokens, f"{self!r}: {computed} tokens do not fit the blocks"
        self.num_computed_tokens = computed

    def append(self, token_id: int) -> None:
        """Record the token that came out of a decode step; it is not computed yet."""
        self._require(SequenceState.DECODING, "append a token")
        assert self.num_tokens == self.num_computed_tokens, f"{self!r}: a token was drawn without a row"
        assert self.num_tokens < self.max_total_tokens, f"{self!r}: max_tokens is reached"
        self.output_token_ids.append(token_id)

    def finish(self, reason: FinishReason) -> None:
        """End on a stop or on the token limit."""
        assert reason is not FinishReason.CANCELLED, "call cancel()"
        self._fire(SequenceEvent.FINISH)
        self.finish_reason = reason

    def cancel(self) -> None:
        """End because the caller wants no more of it."""
        self._fire(SequenceEvent.CANCEL)
        self.finish_reason = FinishReason.CANCELLED

    def fail(self) -> None:
        """End because of an error; there is no finish reason."""
        self._fire(SequenceEvent.FAIL)

    def _end_prefill_when_done(self) -> None:
        if self.num_computed_tokens == self.num_prefill_tokens:
            self._fire(SequenceEvent.PREFILLED)

    def _fire(self, event: SequenceEvent) -> None:
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            raise InvalidTransitionError(self.state, event)
        self.state = target

    def _require(self, state: SequenceState, event: str) -> None:
        if self.state is not state:
            raise InvalidTransitionError(self.state, event)
