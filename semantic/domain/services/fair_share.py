"""Whose turn it is: those who had least of the engine's work go first.

Virtual token counters after Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): every client's
counter grows by the tokens that are computed for it; one that comes back after a pause is lifted to the least of those
that are there, so that nobody saves up turns.
"""

from collections import Counter
from collections.abc import Hashable


class FairShare:
    """Counts tokens for each client that has requests. Forgets a client with its last request."""

    def __init__(self) -> None:
        self._served: dict[Hashable, int] = {}
        self._requests: Counter[Hashable] = Counter()
        self._least = 0  # what the least served had when the last of them left

    def enter(self, client: Hashable) -> None:
        """One more request of this client."""
        if not self._requests[client]:
            self._served[client] = min(self._served.values(), default=self._least)
        self._requests[client] += 1

    def leave(self, client: Hashable) -> None:
        """One request less of this client."""
        assert self._requests[client], f"{client!r} has no request"
        self._requests[client] -= 1
        if not self._requests[client]:
            self._least = max(self._least, self._served.pop(client))
            del self._requests[client]

    def charge(self, client: Hashable, num_tokens: int) -> None:
        """So many tokens were computed for a client that has a request."""
        self._served[client] += num_tokens

    def served(self, client: Hashable) -> int:
        """The client's counter; lower goes first."""
        return self._served[client]
