"""Holds drafts against what the model draws: a draft is kept as far as it is what would have been drawn anyway."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import mlx.core as mx
from attrs import evolve

from semantic.application.ports.model import DecodeRow, Drawn


class Choose(Protocol):
    """Chooses a token for each row of ``logits`` ``[rows, vocabulary]``."""

    def __call__(self, logits: mx.array, rows: Sequence[DecodeRow]) -> list[Drawn]: ...


def choose_verified(choose: Choose, logits: mx.array, rows: Sequence[DecodeRow]) -> list[tuple[Drawn, ...]]:
    """What each row draws from ``logits`` ``[tokens fed, vocabulary]``, a row's own behind each other.

    Greedy tokens are chosen for all positions at once. Others are drawn one after the other up to the first that the
    draft doesn't have: each draw splits its key off the last one's, and processors are called once for each token.
    """
    positions = [list(_positions(row)) for row in rows]
    if all(row.sampling.is_greedy and not row.sampling.changes_logits for row in rows):
        drawn = iter(choose(logits, [position for own in positions for position in own]))
        return [_up_to_the_first_that_differs(list(islice(drawn, len(own))), own[0].draft) for own in positions]
    results, start = [], 0
    for own in positions:
        results.append(_one_by_one(choose, logits[start : start + len(own)], own))
        start += len(own)
    return results


def _positions(row: DecodeRow) -> Iterator[DecodeRow]:
    """The row itself, and as it would be after each token of its draft."""
    yield row
    for i, token_id in enumerate(row.draft, start=1):
        history = (*row.history, *row.draft[:i]) if row.sampling.changes_logits else ()
        yield evolve(row, token_id=token_id, index=row.index + i, history=history, draft=row.draft[i:])


def _one_by_one(choose: Choose, logits: mx.array, positions: Sequence[DecodeRow]) -> tuple[Drawn, ...]:
    drawn: list[Drawn] = []
    for i, row in enumerate(positions):
        drawn += choose(logits[i : i + 1], [row])
        if (drawn[-1].token_id,) != row.draft[:1]:
            break
    return tuple(drawn)


def _up_to_the_first_that_differs(drawn: Sequence[Drawn], draft: Sequence[int]) -> tuple[Drawn, ...]:
    right = 0
    while right < len(draft) and drawn[right].token_id == draft[right]:
        right += 1
    return tuple(drawn[: right + 1])
