"""One turn at a time: taken by the thread that asks, given back by the one that ends the turn."""

import threading

from semantic.domain.errors import AgentBusyError


class TurnLock:
    """A lock that says so when a thread would wait for itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._taken_by: int | None = None

    def take(self) -> None:
        """Wait for the turn that goes on. Raises :class:`AgentBusyError` if it is this thread's own."""
        while not self._lock.acquire(timeout=0.2):  # in slices, so that Ctrl-C is seen on every platform
            if self._taken_by == threading.get_ident():
                raise AgentBusyError(
                    f"agent {self._name!r} is in the middle of a turn that this thread began; "
                    "read its stream to the end, or leave it, first"
                )
        self._taken_by = threading.get_ident()

    def give_back(self) -> None:
        """Let the next turn begin. Any thread may do so."""
        self._taken_by = None
        self._lock.release()

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_: object) -> None:
        self.give_back()
