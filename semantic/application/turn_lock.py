"""One turn at a time, in the order they were asked for: taken by who asks, given back by the thread that ends it."""

import threading
from collections import deque
from collections.abc import Callable

from attrs import define

from semantic.domain.errors import AgentBusyError


@define(eq=False)
class Ticket:
    """A place in the line. ``number`` is the turn's once it has begun; ``granted`` is then called, on any thread.

    If ``granted`` raises, there is nobody any more who would take the turn, and the next in line gets it.
    """

    granted: Callable[[], None]
    owner: int | None = None
    number: int | None = None


class TurnLock:
    """A lock that says so when a thread would wait for a turn that it has to end itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()  # a finaliser may withdraw a ticket wherever memory is collected
        self._waiting: deque[Ticket] = deque()
        self._is_taken = False
        self._turn = 0
        self._owner: int | None = None

    def take(self) -> int:
        """Wait for the turns that were asked for before, and return the number of this one, which begins.

        Raises :class:`AgentBusyError` if this thread began the one that goes on, and nobody has let go of it.
        """
        begun = threading.Event()
        ticket = self.ask(begun.set, owner=threading.get_ident())
        try:
            while not begun.wait(0.2):  # in slices, so that Ctrl-C is seen on every platform
                if self._owner == threading.get_ident() and ticket.number is None:
                    raise AgentBusyError(
                        f"agent {self._name!r} is in the middle of a turn that this thread began; "
                        "read its stream to the end, or leave it, first"
                    )
        except BaseException:
            self.withdraw(ticket)
            raise
        assert ticket.number is not None
        return ticket.number

    def ask(self, granted: Callable[[], None], *, owner: int | None = None) -> Ticket:
        """Stand in line without waiting. The turn may begin before this returns."""
        ticket = Ticket(granted, owner)
        with self._lock:
            self._waiting.append(ticket)
        self._go_on()
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Leave the line; a turn that has begun is given back."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return
        if ticket.number is not None:
            self.give_back()

    def let_go(self, turn: int) -> None:
        """Note that this turn, if it goes on, ends without its owner."""
        if turn == self._turn:
            self._owner = None

    def give_back(self) -> None:
        """Let the next turn begin. Any thread may do so."""
        with self._lock:
            self._owner, self._is_taken = None, False
        self._go_on()

    def _go_on(self) -> None:
        """Begin the next turn, if none goes on and someone waits who is still there."""
        while (ticket := self._next()) is not None:
            try:
                ticket.granted()
            except Exception:  # noqa: BLE001 - whoever waited is gone
                ticket.number = None
                with self._lock:
                    self._owner, self._is_taken = None, False
            else:
                return

    def _next(self) -> Ticket | None:
        with self._lock:
            if self._is_taken or not self._waiting:
                return None
            ticket = self._waiting.popleft()
            self._turn += 1
            self._is_taken, self._owner = True, ticket.owner
            ticket.number = self._turn
            return ticket

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_: object) -> None:
        self.give_back()
