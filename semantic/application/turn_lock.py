"""One turn at a time: taken by the thread that asks, given back by the one that ends the turn."""

import threading

from semantic.domain.errors import AgentBusyError


class TurnLock:
    """A lock that says so when a thread would wait for a turn that it has to end itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._turn = 0
        self._owner: int | None = None

    def take(self) -> int:
        """Wait for the turn that goes on, and return the number of the next one, which begins.

        Raises :class:`AgentBusyError` if this thread began the one that goes on, and nobody has let go of it.
        """
        while not self._lock.acquire(timeout=0.2):  # in slices, so that Ctrl-C is seen on every platform
            if self._owner == threading.get_ident():
                raise AgentBusyError(
                    f"agent {self._name!r} is in the middle of a turn that this thread began; "
                    "read its stream to the end, or leave it, first"
                )
        self._turn += 1
        self._owner = threading.get_ident()
        return self._turn

    def let_go(self, turn: int) -> None:
        """Note that this turn, if it goes on, ends without its owner."""
        if turn == self._turn:
            self._owner = None

    def give_back(self) -> None:
        """Let the next turn begin. Any thread may do so."""
        self._owner = None
        self._lock.release()

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_: object) -> None:
        self.give_back()
