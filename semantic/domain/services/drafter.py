"""Drafts what a sequence may say next, and knows from experience how likely each of these tokens is right."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from attrs import frozen

from semantic.domain.services.prompt_lookup import LONGEST_MATCH, Occurrence, PromptLookup

_MEMORY = 0.95
"""What an observation weighs once another one is made: about the last 20 count."""

_FIRST_GUESS, _ITS_WEIGHT = 0.1, 4.0
"""Before there is experience: a guess is right in one of ten cases, which counts as much as four observations.

So nothing is drafted on CPU before guesses that cost nothing were right a few times in a row: a story of twenty tokens
is over before a first wrong draft has paid for itself, and a copy is long.
"""


@frozen
class Draft:
    """Tokens that may come next. ``chances``: of each that it is right if all before it were."""

    tokens: Sequence[int] = ()
    chances: Sequence[float] = ()


class Drafter(Protocol):
    """Drafts for one sequence."""

    def draft(self, most: int) -> Draft:
        """At most so many tokens; none where there is nothing to go by."""

    def observe(self, drawn: Sequence[int]) -> None:
        """Learn from what was drawn, and take it into the context."""


class PromptLookupDrafter:
    """One sequence's drafts, by prompt lookup in its own context.

    How likely a guess is right is learned for each length of match, from every token drawn: whether a draft was
    verified or not, what it would have said is compared with what was drawn. So a sequence that stopped drafting
    because it does not pay finds out for free when it would pay again.
    """

    def __init__(self, token_ids: Iterable[int]) -> None:
        self._lookup = PromptLookup()
        self._lookup.extend(token_ids)
        self._experience = [_Experience() for _ in range(LONGEST_MATCH.bit_length())]
        self._found = self._lookup.find()

    def draft(self, most: int) -> Draft:
        """At most so many tokens; none where the context's end never occurred before."""
        if self._found is None or most < 1:
            return Draft()
        chances = self._chances()
        matches = range(self._found.matched, self._found.matched + most)
        return Draft(self._lookup.after(self._found.start, most), [chances[_kind(matched)] for matched in matches])

    def observe(self, drawn: Sequence[int]) -> None:
        """Learn from what was drawn, and take it into the context."""
        if self._found is not None:
            self._compare(self._found, drawn)
        self._lookup.extend(drawn)
        self._found = self._lookup.find()

    def _compare(self, found: Occurrence, drawn: Sequence[int]) -> None:
        for i, (guessed, token_id) in enumerate(zip(self._lookup.after(found.start, len(drawn)), drawn, strict=True)):
            self._experience[_kind(found.matched + i)].note(guessed == token_id)
            if guessed != token_id:
                return

    def _chances(self) -> list[float]:
        """By kind of match. A longer match is taken to be as good as the next shorter one until more is known of it."""
        chances, chance = list[float](), _FIRST_GUESS
        for experience in self._experience:
            chance = experience.chance(chance)
            chances.append(chance)
        return chances


def _kind(matched: int) -> int:
    """Matches of 2 or 3 tokens are of one kind, those of 4 to 7, of 8 to 15, and all longer ones."""
    return min(matched, LONGEST_MATCH).bit_length() - 1


class _Experience:
    def __init__(self) -> None:
        self._right = self._made = 0.0

    def chance(self, guess: float) -> float:
        """The share of guesses that were right, beginning at ``guess``."""
        return (self._right + guess * _ITS_WEIGHT) / (self._made + _ITS_WEIGHT)

    def note(self, is_right: bool) -> None:
        self._right = self._right * _MEMORY + is_right
        self._made = self._made * _MEMORY + 1.0
