"""Prompt lookup: what followed the last time that a context ended as it does now.

Agents copy: edited files, JSON, tool results. So the best guess at what comes next is often what came next before
(Saxena 2023, "Prompt Lookup Decoding"). Occurrences are chained as LZ77's hash chains are (RFC 1951, section 4).
"""

from collections.abc import Iterable

from attrs import frozen

LONGEST_MATCH = 16
"""So many equal tokens are told apart from fewer; more say nothing new."""

_CANDIDATES = 8
"""Earlier occurrences that are compared, the latest first."""


@frozen
class Occurrence:
    """The end of the context was there before: ``matched`` tokens of it, and ``start`` is where it went on."""

    start: int
    matched: int


class PromptLookup:
    """An index of the pairs of tokens in one growing context. Adding a token and finding one take constant time."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._latest: dict[tuple[int, int], int] = {}  # where it went on behind a pair, most recently
        self._earlier: list[int] = []  # by position: where it went on behind the same pair before; 0 if nowhere

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, token_ids: Iterable[int]) -> None:
        """Append tokens to the context."""
        tokens, latest, earlier = self._tokens, self._latest, self._earlier
        for token_id in token_ids:
            position = len(tokens)
            tokens.append(token_id)
            if position < 2:
                earlier.append(0)
                continue
            pair = tokens[position - 2], tokens[position - 1]
            earlier.append(latest.get(pair, 0))
            latest[pair] = position

    def find(self) -> Occurrence | None:
        """Where the context's end occurred before: the longest match of at least two tokens, of equals the latest."""
        tokens, best = self._tokens, None
        start = self._latest.get((tokens[-2], tokens[-1]), 0) if len(tokens) > 1 else 0
        for _ in range(_CANDIDATES):
            if not start:
                break
            matched = self._matched(start)
            if best is None or matched > best.matched:
                best = Occurrence(start, matched)
            if matched == LONGEST_MATCH:
                break
            start = self._earlier[start]
        return best

    def after(self, start: int, count: int) -> list[int]:
        """The ``count`` tokens from ``start`` on; where the context ends before, it is taken to go on repeating."""
        found = self._tokens[start : start + count]
        period = len(found)
        while len(found) < count:
            found.append(found[-period])
        return found

    def _matched(self, start: int) -> int:
        """How many tokens before ``start`` are the context's last ones, of which two are known to be."""
        tokens, end = self._tokens, len(self._tokens)
        matched, most = 2, min(LONGEST_MATCH, start)
        while matched < most and tokens[start - 1 - matched] == tokens[end - 1 - matched]:
            matched += 1
        return matched
