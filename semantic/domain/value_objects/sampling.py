"""How the next token is chosen, and when to stop. Names are mlx_lm's."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from semantic.domain.errors import InvalidRequestError


def _strings(value: "str | Iterable[str] | None") -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _token_ids(value: "Iterable[int] | None") -> frozenset[int]:
    return frozenset(value or ())


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@frozen(kw_only=True)
class SamplingParams:
    """Greedy by default (``temp == 0``).

    ``top_p``, ``min_p`` and ``top_k`` are off at 0, and ``top_p`` at 1 too. ``seed`` fixes sampled output whatever
    else runs in the batch; without one, each request draws a fresh seed. ``stop`` strings are not returned.
    Raises :class:`InvalidRequestError` naming the field that is out of range.
    """

    max_tokens: int = 256
    temp: float = 0.0
    top_p: float = 0.0
    min_p: float = 0.0
    top_k: int = 0
    seed: int | None = None
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
