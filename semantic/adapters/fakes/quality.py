"""A quality probe that is told what every mode does to a model."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from attrs import define, field

from semantic.adapters.fakes.tokenizer import FakeTokenizer
from semantic.application.ports.quality import Agreement, KVMode

_LOSS = 2.0
_REMEMBERED = 8
_EXACT_BYTES = 400.0
BITS = {
    KVMode.EXACT: 32,
    KVMode.AT_REST_8: 8.3,
    KVMode.AT_REST_8_4: 6.3,
    KVMode.AT_REST_4: 4.5,
    KVMode.PUBLISHED_4: 4.5,
    KVMode.IN_COMPUTE_8: 9,
    KVMode.IN_COMPUTE_8_4: 7,
    KVMode.IN_COMPUTE_4: 5,
}
"""Of a value, scales and all."""

DIVERGENCE = {
    KVMode.EXACT: 0.0,
    KVMode.AT_REST_8: 0.0001,
    KVMode.AT_REST_8_4: 0.001,
    KVMode.AT_REST_4: 0.002,
    KVMode.PUBLISHED_4: 0.02,
    KVMode.IN_COMPUTE_8: 0.0002,
    KVMode.IN_COMPUTE_8_4: 0.001,
    KVMode.IN_COMPUTE_4: 0.03,
}
"""Nats at every token, as small models have them."""


@define(kw_only=True)
class FakeQualityProbe:
    """Every mode diverges by ``divergence`` and costs ``dearer`` nats more than exact at each token, in ``bits``.

    Its answer copies what followed the question's last tokens in the context, as a model would that remembers all;
    modes in ``forgets`` answer with something else. ``refuses`` says of modes why they are not to be had.
    """

    divergence: Mapping[KVMode, float] = DIVERGENCE
    dearer: Mapping[KVMode, float] = field(factory=dict)
    bits: Mapping[KVMode, float] = field(factory=dict)
    forgets: Sequence[KVMode] = ()
    refuses: Mapping[KVMode, str] = field(factory=dict)
    is_closed: bool = False

    def __call__(self) -> Self:
        """Itself: fulfils the port that makes probes as well."""
        return self

    def encode(self, text: str) -> list[int]:
        """A token for each byte."""
        return FakeTokenizer().encode(text, continues=True)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The bytes' text."""
        return FakeTokenizer().decode(token_ids)

    def refusal(self, mode: KVMode) -> str | None:
        """As it was told."""
        return self.refuses.get(mode)

    def agreements(
        self, context: Sequence[int], text: Sequence[int], modes: Sequence[KVMode]
    ) -> Mapping[KVMode, Agreement]:
        """The same at every token."""
        return {mode: self._agreement(mode, len(text) - 1) for mode in modes}

    def answers(
        self, context: Sequence[int], question: Sequence[int], modes: Sequence[KVMode], *, max_tokens: int
    ) -> Mapping[KVMode, tuple[int, ...]]:
        """What is remembered, or not."""
        right = _continued([*context, *question], max_tokens)
        return {mode: right[::-1] if mode in self.forgets else right for mode in modes}

    def close(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _agreement(self, mode: KVMode, tokens: int) -> Agreement:
        return Agreement(
            divergence=(self.divergence[mode],) * tokens,
            loss=(_LOSS + self.dearer.get(mode, 0.0),) * tokens,
            exact_loss=(_LOSS,) * tokens,
            same_choice=(True,) * tokens,
            bytes_per_token=_EXACT_BYTES * self.bits.get(mode, BITS[mode]) / BITS[KVMode.EXACT],
        )


def _continued(token_ids: Sequence[int], count: int) -> tuple[int, ...]:
    """What followed the last tokens where they stood before."""
    known = list(token_ids)
    asked = known[-_REMEMBERED:]
    for start in range(len(known) - _REMEMBERED - 1, -1, -1):
        if known[start : start + _REMEMBERED] == asked:
            return tuple(known[start + _REMEMBERED : start + _REMEMBERED + count])
    return (1,) * count
