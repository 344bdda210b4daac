"""Drafts what a sequence may say next, and knows from experience how likely each of these tokens is right."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from attrs import frozen

from semantic.domain.services.prompt_lookup import LONGEST_MATCH, Occurrence, PromptLookup

_MEMORY = 0.95
"""What an observation weighs once another one is made: about the last 20 count."""

_FIRST_GUESS, _ITS_WEIGHT = 0.4, 2.0
"""Before there is experience: a guess is right in two of five cases, which counts as much as two observations."""


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
        self._experience = [_Experience() for _ in range(LONGEST_MATCH.bit_length() + 1)]
        self._found = self._lookup.find()

    def draft(self, most: int) -> Draft:
        """At most so many tokens; none where the context's end never occurred before."""
        if self._found is None or most < 1:
            return Draft()
        chances = [self._of(self._found.matched + i).chance for i in range(most)]
        return Draft(self._lookup.after(self._found.start, most), chances)

    def observe(self, drawn: Sequence[int]) -> None:
        """Learn from what was drawn, and take it into the context."""
        if self._found is not None:
            self._compare(self._found, drawn)
        self._lookup.extend(drawn)
        self._found = self._lookup.find()

    def _compare(self, found: Occurrence, drawn: Sequence[int]) -> None:
        for i, (guessed, token_id) in enumerate(zip(self._lookup.after(found.start, len(drawn)), drawn, strict=True)):
            self._of(found.matched + i).note(guessed == token_id)
            if guessed != token_id:
                return

    def _of(self, matched: int) -> "_Experience":
        """Of matches of 2 or 3 tokens, of 4 to 7, of 8 to 15, and of more."""
        return self._experience[min(matched, LONGEST_MATCH).bit_length()]


class _Experience:
    def __init__(self) -> None:
        self._right = self._made = 0.0

    @property
    def chance(self) -> float:
        return (self._right + _FIRST_GUESS * _ITS_WEIGHT) / (self._made + _ITS_WEIGHT)

    def note(self, is_right: bool) -> None:
        self._right = self._right * _MEMORY + is_right
        self._made = self._made * _MEMORY + 1.0
