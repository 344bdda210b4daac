"""How the next token is chosen, and when to stop. Names are mlx_lm's."""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite, isnan
from typing import Any

from attrs import field, frozen

from semantic.domain.errors import InvalidRequestError

LogitsProcessor = Callable[[Any, Any], Any]
"""Takes the tokens so far ``[tokens]`` and logits ``[1, vocabulary]``, returns logits, as mlx_lm's processors do."""


def _strings(value: "str | Iterable[str] | None") -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _token_ids(value: "Iterable[int] | None") -> frozenset[int]:
    return frozenset(value or ())


def _biases(value: "Mapping[int, float] | Iterable[tuple[int, float]] | None") -> tuple[tuple[int, float], ...]:
    pairs = value.items() if isinstance(value, Mapping) else value or ()
    try:
        return tuple((token_id, bias) for token_id, bias in pairs)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"logit_bias is a dict from token id to what is added, got {value!r}") from error


def _processors(value: "Iterable[LogitsProcessor] | LogitsProcessor | None") -> "tuple[LogitsProcessor, ...]":
    several = tuple(value) if isinstance(value, Iterable) else () if value is None else (value,)
    if not all(callable(one) for one in several):
        raise InvalidRequestError(f"logits_processors are callables that take (tokens, logits), got {value!r}")
    return several


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@frozen(kw_only=True)
class SamplingParams:
    """Greedy by default (``temp == 0``).

    ``top_p``, ``min_p`` and ``top_k`` are off at 0, and ``top_p`` at 1 too. With ``xtc_probability``, a draw leaves out
    all tokens above ``xtc_threshold`` but the least likely of them, ``xtc_special_tokens`` excepted. ``seed`` fixes
    sampled output whatever else runs in the batch; without one, each request draws a fresh seed. ``stop`` strings are
    not returned.

    ``logit_bias`` (token id to what is added) and the penalties change logits in mlx_lm's order, then
    ``logits_processors`` in theirs. A penalty looks at the last ``..._context_size`` tokens of prompt and output, at
    all of them where that is 0; None and 0 are off. Processors get every token of prompt and output, also those whose
    keys and values came from the cache, and run on the engine's thread, once for each token that is drawn.

    ``logprobs``: so many most likely tokens are returned beside each drawn one, with their log-probabilities behind
    the processors and before temperature and filters; at 0 the drawn one's only.
    Raises :class:`InvalidRequestError` naming the field that is out of range.
    """

    max_tokens: int = 256
    temp: float = 0.0
    top_p: float = 0.0
    min_p: float = 0.0
    top_k: int = 0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    xtc_special_tokens: frozenset[int] = field(default=frozenset(), converter=_token_ids)
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = field(default=(), converter=_biases)
    repetition_penalty: float | None = None
    repetition_context_size: int = 20
    presence_penalty: float | None = None
    presence_context_size: int = 20
    frequency_penalty: float | None = None
    frequency_context_size: int = 20
    logits_processors: tuple[LogitsProcessor, ...] = field(default=(), converter=_processors)
    logprobs: int | None = None
    stop: tuple[str, ...] = field(default=(), converter=_strings)
    stop_token_ids: frozenset[int] = field(default=frozenset(), converter=_token_ids)

    def __attrs_post_init__(self) -> None:
        if not _is_int(self.max_tokens) or self.max_tokens <= 0:
            raise InvalidRequestError(f"max_tokens must be a positive integer, got {self.max_tokens!r}")
        if not 0.0 <= self.temp < float("inf"):
            raise InvalidRequestError(f"temp must be 0 (greedy) or a positive number, got {self.temp!r}")
        if not 0.0 <= self.top_p <= 1.0:
            raise InvalidRequestError(f"top_p must lie between 0 and 1, got {self.top_p!r}")
        if not 0.0 <= self.min_p <= 1.0:
            raise InvalidRequestError(f"min_p must lie between 0 and 1, got {self.min_p!r}")
        if not _is_int(self.top_k) or self.top_k < 0:
            raise InvalidRequestError(f"top_k must be 0 (off) or a positive integer, got {self.top_k!r}")
        if self.seed is not None and not (_is_int(self.seed) and 0 <= self.seed < 2**64):
            raise InvalidRequestError(f"seed must be an integer from 0 to 2^64 - 1, got {self.seed!r}")
        if not all(isinstance(stop, str) for stop in self.stop):
            raise InvalidRequestError(f"stop must be a string or several, got {self.stop!r}; ids go to stop_token_ids")
        if not all(_is_int(token_id) for token_id in self.stop_token_ids):
            raise InvalidRequestError(f"stop_token_ids must be integers, got {sorted(map(repr, self.stop_token_ids))}")
        if any(not stop for stop in self.stop):
            raise InvalidRequestError("a stop string is empty; it would stop before the first token")
        self._check_xtc()
        self._check_what_changes_logits()
        if self.logprobs is not None and not (_is_int(self.logprobs) and self.logprobs >= 0):
            raise InvalidRequestError(f"logprobs must be a number of tokens, 0 or more, got {self.logprobs!r}")

    def _check_xtc(self) -> None:
        if not (_is_number(self.xtc_probability) and 0.0 <= self.xtc_probability <= 1.0):
            raise InvalidRequestError(f"xtc_probability must lie between 0 and 1, got {self.xtc_probability!r}")
        if not (_is_number(self.xtc_threshold) and 0.0 <= self.xtc_threshold <= 0.5):
            raise InvalidRequestError(f"xtc_threshold must lie between 0 and 0.5, got {self.xtc_threshold!r}")
        if not all(_is_int(token_id) for token_id in self.xtc_special_tokens):
            raise InvalidRequestError(f"xtc_special_tokens must be integers, got {self.xtc_special_tokens!r}")

    def _check_what_changes_logits(self) -> None:
        for token_id, bias in self.logit_bias:
            if not _is_int(token_id):
                raise InvalidRequestError(f"logit_bias is for token ids (int), got {token_id!r}")
            if not _is_number(bias) or isnan(bias) or bias == float("inf"):
                raise InvalidRequestError(f"logit_bias is a finite number or -inf, got {bias!r} for {token_id}")
        for kind in ("repetition", "presence", "frequency"):
            penalty, size = getattr(self, f"{kind}_penalty"), getattr(self, f"{kind}_context_size")
            if penalty is not None and not (_is_number(penalty) and isfinite(penalty)):
                raise InvalidRequestError(f"{kind}_penalty must be a finite number, got {penalty!r}")
            if not _is_int(size) or size < 0:
                raise InvalidRequestError(f"{kind}_context_size must be a number of tokens, 0 for all, got {size!r}")
        if self.repetition_penalty is not None and self.repetition_penalty < 0:
            raise InvalidRequestError(f"repetition_penalty must not be negative, got {self.repetition_penalty!r}")

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> "SamplingParams":
        """The parameters that keyword arguments stand for. Raises :class:`InvalidRequestError` for unknown ones."""
        try:
            return cls(**keywords)
        except TypeError as error:
            known = ", ".join(cls.__annotations__)
            raise InvalidRequestError(f"{error}; known are {known}") from error

    @property
    def is_greedy(self) -> bool:
        """Whether the next token is the argmax of the log-probabilities."""
        return self.temp == 0.0

    @property
    def changes_logits(self) -> bool:
        """Whether anything comes between the model's logits and the choice: a bias, a penalty, a processor."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return bool(self.logit_bias or self.logits_processors or any(penalties))
