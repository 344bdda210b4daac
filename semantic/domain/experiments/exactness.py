"""The token lane's rule: when a token that differs from the reference's is a tie, and how many are too many.

ADR 0004 has the measurement behind both constants.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from attrs import define, field, frozen

TIE_BOUND_NATS = 2.5e-4
"""A tie needs the reference's own gap between its two best candidates to be below this."""

TOKENS_PER_TIE = 10_000
"""One tie is allowed in each started run of so many compared tokens."""

END_OF_SEQUENCE = -1
"""Stands for any end-of-sequence token, so that stopping early or late is a divergence like any other."""


class TopTwo(Protocol):
    """The reference's two best candidates at one position, and the gap of their log-probabilities (nats)."""

    @property
    def first(self) -> int: ...
    @property
    def second(self) -> int: ...
    @property
    def gap(self) -> float: ...


@frozen
class TokenComparison:
    """``first_divergence`` is None when all tokens agree; ``compared`` counts up to and including it."""

    compared: int
    first_divergence: int | None = None
    actual: int | None = None
    expected: int | None = None
    gap: float | None = None
    is_tie: bool = False

    @property
    def agrees(self) -> bool:
        """Whether every token is the same."""
        return self.first_divergence is None

    def __str__(self) -> str:
        if self.agrees:
            return f"{self.compared} tokens equal"
        gap = "unknown" if self.gap is None else f"{self.gap:.2e} nats"
        kind = "tie" if self.is_tie else "mismatch"
        return f"{kind} at token {self.first_divergence}: {self.actual} for {self.expected}, reference gap {gap}"


def drawn_tokens(token_ids: Sequence[int], stopped: bool) -> list[int]:
    """The tokens a generation drew: its ids, and the end of the sequence where it stopped by itself."""
    return [*token_ids, END_OF_SEQUENCE] if stopped else list(token_ids)


def is_tie(actual: int, expected: int, top2: TopTwo, tie_bound: float, end_ids: Collection[int] = frozenset()) -> bool:
    """Whether both tokens are the reference's two candidates and these stand closer than the bound."""
    first, second = (END_OF_SEQUENCE if token in end_ids else token for token in (top2.first, top2.second))
    return {actual, expected} == {first, second} and top2.gap < tie_bound


def compare_token_ids(
    actual: Sequence[int],
    expected: Sequence[int],
    top2: Sequence[TopTwo],
    tie_bound: float = TIE_BOUND_NATS,
    end_ids: Collection[int] = frozenset(),
) -> TokenComparison:
    """Compare drawn tokens with the reference's up to the first divergence.

    ``top2[i]`` belongs to ``expected[i]``; where it is missing, a divergence is no tie. What follows a
    divergence is not compared: from there on the two generations continue different texts.
    """
    for position in range(max(len(actual), len(expected))):
        ours = actual[position] if position < len(actual) else None
        theirs = expected[position] if position < len(expected) else None
        if ours == theirs:
            continue
        ranked = top2[position] if position < len(top2) else None
        tie = (
            ranked is not None
            and ours is not None
            and theirs is not None
            and is_tie(ours, theirs, ranked, tie_bound, end_ids)
        )
        gap = None if ranked is None else ranked.gap
        return TokenComparison(position + 1, position, ours, theirs, gap, tie)
    return TokenComparison(len(expected))


@define
class LaneTally:
    """Counts one lane's comparisons. Ties are kept whole: both candidates and the gap are reported."""

    tokens: int = 0
    sequences: int = 0
    equal: int = 0
    ties: list[tuple[str, TokenComparison]] = field(factory=list)
    mismatches: list[tuple[str, TokenComparison]] = field(factory=list)

    def add(self, label: str, comparison: TokenComparison, *, texts_agree: bool = True) -> bool:
        """Count one sequence; return whether it passes. Equal tokens with unequal text are a mismatch."""
        self.sequences += 1
        self.tokens += comparison.compared
        if comparison.agrees and texts_agree:
            self.equal += 1
        elif comparison.is_tie:
            self.ties.append((label, comparison))
        else:
            self.mismatches.append((label, comparison))
        return (comparison.agrees and texts_agree) or comparison.is_tie

    @property
    def ties_allowed(self) -> int:
        """One for each started :data:`TOKENS_PER_TIE` compared tokens."""
        return -(-self.tokens // TOKENS_PER_TIE)

    @property
    def ties_over_cap(self) -> int:
        """Ties beyond those allowed."""
        return max(0, len(self.ties) - self.ties_allowed)

    @property
    def share_equal(self) -> float:
        """Sequences that agree in every token and in their text, of all; 0 when nothing was compared."""
        return self.equal / self.sequences if self.sequences else 0.0

    def __str__(self) -> str:
        return (
            f"{self.equal} of {self.sequences} sequences equal over {self.tokens} tokens, "
            f"{len(self.ties)} ties, {len(self.mismatches)} mismatches"
        )
