"""Whose turn it is: those who had least of the engine's work go first, unless another one has waited too long.

Virtual token counters after Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): every client's
counter grows by the tokens that are computed for it; one that comes back after a pause is lifted to the least of those
that are there, so that nobody saves up turns, and keeps what it had beyond that, so that nobody starts anew by leaving.
"""

from collections import Counter
from collections.abc import Hashable

_MOST_AWAY = 10_000
"""So many clients that have left are remembered."""


class FairShare:
    """Counts tokens for each client. One of which nothing ran for ``patience_s`` goes first whatever it had before.

    Without the latter, one that had much would wait as long as others keep coming that had little.
    """

    def __init__(self, patience_s: float = float("inf")) -> None:
        self._patience_s = patience_s
        self._served: dict[Hashable, int] = {}
        self._waits_since: dict[Hashable, float] = {}
        self._requests: Counter[Hashable] = Counter()
        self._away: dict[Hashable, int] = {}  # the latest to leave last
        self._least = 0  # what the least served had when the last of them left

    def enter(self, client: Hashable, now: float = 0.0) -> None:
        """One more request of this client."""
        if not self._requests[client]:
            least = min(self._served.values(), default=self._least)
            self._served[client] = max(self._away.pop(client, 0), least)
            self._waits_since[client] = now
        self._requests[client] += 1

    def leave(self, client: Hashable) -> None:
        """One request less of this client."""
        assert self._requests[client], f"{client!r} has no request"
        self._requests[client] -= 1
        if self._requests[client]:
            return
        self._away[client] = self._served.pop(client)
        self._least = max(self._least, self._away[client])
        if len(self._away) > _MOST_AWAY:
            del self._away[next(iter(self._away))]
        del self._requests[client], self._waits_since[client]

    def charge(self, client: Hashable, num_tokens: int) -> None:
        """So many tokens were computed for a client that has a request."""
        self._served[client] += num_tokens

    def note_turn(self, client: Hashable, now: float) -> None:
        """A request of this client runs."""
        self._waits_since[client] = now

    def served(self, client: Hashable) -> int:
        """The client's counter."""
        return self._served[client]

    def place(self, client: Hashable, now: float) -> int:
        """Lower goes first."""
        has_waited_long = now - self._waits_since[client] >= self._patience_s
        return -1 if has_waited_long else self._served[client]
