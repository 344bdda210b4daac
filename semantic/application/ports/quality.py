"""What rounding keys and values does to what a model says, seen from where its log-probabilities are."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from attrs import frozen


class KVMode(StrEnum):
    """How a context's keys and values are kept while a model goes on from there.

    ``AT_REST``: computed exactly, sealed into quantised blocks, and taken up again. ``IN_COMPUTE``: quantised from the
    first token on. ``PUBLISHED_4``: at rest as mlx_lm's caches round, 4 bits for each token's groups of channels with
    16-bit scales; the engine offers no such blocks, comparisons do.
    """

    EXACT = "exact"
    AT_REST_8 = "8 at rest"
    AT_REST_8_4 = "8/4 at rest"
    AT_REST_4 = "4 at rest"
    PUBLISHED_4 = "4 by token at rest"
    IN_COMPUTE_8 = "8 in compute"
    IN_COMPUTE_8_4 = "8/4 in compute"
    IN_COMPUTE_4 = "4 in compute"


@frozen
class Agreement:
    """One mode held against exact keys and values: a number for each token of a text that was predicted, in order.

    ``divergence``: Kullback-Leibler, of the mode's distribution from the exact one, in nats. ``loss`` and
    ``exact_loss``: nats that the text's own token cost. ``same_choice``: whether both would have chosen the same token.
    ``bytes_per_token``: what the context's blocks take once they are sealed, scales and all.
    """

    divergence: tuple[float, ...]
    loss: tuple[float, ...]
    exact_loss: tuple[float, ...]
    same_choice: tuple[bool, ...]
    bytes_per_token: float


class QualityProbe(Protocol):
    """Goes on from one context with its keys and values kept in several ways. A context manager.

    What comes after the context is computed on top of it and not rounded at rest, as in a conversation that goes on.
    The exact context is computed once for all modes that only rest in another way.
    """

    def encode(self, text: str) -> list[int]:
        """Token ids of text that continues other text: no special tokens are added."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids."""

    def refusal(self, mode: KVMode) -> str | None:
        """Why the model can't keep its keys and values so, or None."""

    def agreements(
        self, context: Sequence[int], text: Sequence[int], modes: Sequence[KVMode]
    ) -> Mapping[KVMode, Agreement]:
        """Read ``text`` behind ``context``: each of its tokens but the first is predicted, in each of the modes."""

    def answers(
        self, context: Sequence[int], question: Sequence[int], modes: Sequence[KVMode], *, max_tokens: int
    ) -> Mapping[KVMode, tuple[int, ...]]:
        """``max_tokens`` greedy tokens behind the question, whatever they are, in each of the modes."""

    def close(self) -> None:
        """Give the model back as it was. Closing twice is a no-op."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class QualityProbes(Protocol):
    """Makes probes of the model that the lab's engines run."""

    def __call__(self) -> QualityProbe:
        """Make one. The caller closes it."""
