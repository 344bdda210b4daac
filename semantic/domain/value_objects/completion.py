"""What a caller gets back."""

from enum import StrEnum

from attrs import frozen


class FinishReason(StrEnum):
    """Why a completion ended: an end-of-sequence token, stop token or stop string; the token limit; a cancel."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@frozen
class Usage:
    """Token counts. ``cached_tokens`` of the ``prompt_tokens`` were not computed again."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@frozen
class Timings:
    """``ttft_s``: seconds from submission to the first token. ``decode_tokens_per_s``: of the tokens after it."""

    ttft_s: float
    decode_tokens_per_s: float


@frozen
class TokenLogprobs:
    """The log-probability (natural) of a token that was drawn, and the most likely tokens at its place, best first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@frozen
class Completion:
    """A finished request. ``token_ids`` holds no end-of-sequence token; ``text`` is empty without a tokenizer.

    ``logprobs`` has one entry for each of ``token_ids``, and is None where they were not asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    logprobs: tuple[TokenLogprobs, ...] | None = None


@frozen
class Delta:
    """One piece of a stream. Joined, the ``text`` of all deltas is the completion's text; the last one carries it.

    ``logprobs``: of ``token_ids``, where they were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    completion: Completion | None = None
    logprobs: tuple[TokenLogprobs, ...] | None = None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Set on the last delta only."""
        return self.completion.finish_reason if self.completion else None
