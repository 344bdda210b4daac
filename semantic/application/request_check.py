"""What can never be served is refused before it is queued."""

from collections.abc import Callable, Iterable

import attrs

from semantic.application.ports.model import ModelProfile
from semantic.domain.errors import (
    EmptyPromptError,
    InvalidRequestError,
    PromptTooLongError,
    RequestTooLargeError,
    TokenizerRequiredError,
    TokenOutOfVocabularyError,
)
from semantic.domain.value_objects import SamplingParams


def check_prompt(prompt_token_ids: list[int], profile: ModelProfile) -> None:
    """Raise :class:`EmptyPromptError`, :class:`TokenOutOfVocabularyError` or :class:`InvalidRequestError`."""
    if not prompt_token_ids:
        raise EmptyPromptError("the prompt has no tokens; pass a non-empty string, token ids or messages")
    for position, token_id in enumerate(prompt_token_ids):
        if not isinstance(token_id, int):
            raise InvalidRequestError(f"token id {token_id!r} at position {position} is not an integer")
        if not 0 <= token_id < profile.vocab_size:
            raise TokenOutOfVocabularyError(token_id, position, profile.vocab_size)


def check_request(
    prompt_token_ids: list[int],
    sampling: SamplingParams,
    profile: ModelProfile,
    *,
    total_blocks: int,
    room_needed: Callable[[int], int],
    has_tokenizer: bool,
) -> SamplingParams:
    """Return ``sampling`` with ``max_tokens`` cut to what the model's context leaves.

    ``room_needed`` says of a number of tokens how many of the pool's ``total_blocks`` make room for them.

    Raises what :func:`check_prompt` raises, :class:`PromptTooLongError`, :class:`RequestTooLargeError`,
    :class:`TokenizerRequiredError`, or their base :class:`InvalidRequestError`.
    """
    check_prompt(prompt_token_ids, profile)
    if sampling.top_k >= profile.vocab_size:
        raise InvalidRequestError(
            f"top_k must be smaller than the vocabulary ({profile.vocab_size}), got {sampling.top_k}; 0 keeps all"
        )
    _check_named_tokens("logit_bias", dict(sampling.logit_bias), profile)
    _check_named_tokens("xtc_special_tokens", sampling.xtc_special_tokens, profile)
    if sampling.stop and not has_tokenizer:
        raise TokenizerRequiredError("stop strings need a tokenizer; pass stop_token_ids instead")
    if profile.context_length is not None:
        room = profile.context_length - len(prompt_token_ids)
        if room <= 0:
            raise PromptTooLongError(len(prompt_token_ids), profile.context_length)
        sampling = attrs.evolve(sampling, max_tokens=min(sampling.max_tokens, room))
    needed = room_needed(len(prompt_token_ids) + sampling.max_tokens - 1)
    if needed > total_blocks:
        raise RequestTooLargeError(needed, total_blocks, profile.cache_spec.block_tokens)
    return sampling


def _check_named_tokens(field: str, token_ids: Iterable[int], profile: ModelProfile) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < profile.vocab_size:
            raise InvalidRequestError(
                f"{field} names token {token_id}, which is outside the vocabulary (0 to {profile.vocab_size - 1})"
            )
