"""Decides who waits, who runs, who has to make room, and what a step works on."""

from collections.abc import Callable, Hashable
from enum import Enum
from heapq import nsmallest

from attrs import define, frozen

from semantic.domain.entities import Sequence, SequenceState
from semantic.domain.identifiers import RequestId
from semantic.domain.services.fair_share import FairShare
from semantic.domain.value_objects import Priority

PATIENCE_S = 30.0
"""After so long a background sequence counts as interactive, and a client of which nothing ran goes before
those that had less, so that all end some time whatever else arrives."""

_MOST_TRIES = 64
"""Each one that is tried costs a look-up of its prompt, at every step for as long as it is held back."""

_PREEMPTIBLE = (SequenceState.PREFILLING, SequenceState.DECODING)


class Admission(Enum):
    """What came of trying to admit a sequence.

    ``HELD_BACK``: what it needs is being computed for another one, so it waits and those behind it may pass.
    """

    ADMITTED = "admitted"
    NO_ROOM = "no room"
    HELD_BACK = "held back"


@frozen
class Chunk:
    """The next ``token_ids`` of a sequence's prompt."""

    sequence: Sequence
    token_ids: tuple[int, ...]


@define
class _Ticket:
    priority: Priority
    client: Hashable
    since: float
    is_awaited: bool = False


class Scheduler:
    """The order: interactive before background, then whom least was computed for, then who came first.

    A chunk is cut at multiples of ``prefill_step_size`` of its own prompt, whatever else is in the batch, unless a
    step asks for shorter ones.
    """

    def __init__(self, *, max_num_seqs: int, prefill_step_size: int) -> None:
        self._max_num_seqs = max_num_seqs
        self._prefill_step_size = prefill_step_size
        self._tickets: dict[RequestId, _Ticket] = {}
        self._shares = FairShare(PATIENCE_S)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    # -- coming and going ------------------------------------------------------------------------

    def add(
        self,
        sequence: Sequence,
        *,
        priority: Priority = Priority.INTERACTIVE,
        client: Hashable = None,
        now: float = 0.0,
    ) -> None:
        """Queue a new sequence. ``client``: who shares the engine fairly with the other clients."""
        self._tickets[sequence.request_id] = _Ticket(priority, client, now)
        self._shares.enter(client, now)
        self.waiting.append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Let a sequence that was admitted wait again."""
        self.running.remove(sequence)
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is."""
        self._shares.leave(self._tickets.pop(sequence.request_id).client)
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def charge(self, sequence: Sequence, num_tokens: int) -> None:
        """So many tokens were computed for a sequence."""
        self._shares.charge(self._tickets[sequence.request_id].client, num_tokens)

    def note_awaited(self, sequence: Sequence, *, by: Sequence) -> None:
        """Let a prefill be as urgent as the one that waits for it, until it is done."""
        if self._tickets[by.request_id].priority is Priority.INTERACTIVE:
            self._tickets[sequence.request_id].is_awaited = True

    # -- who is next, and who is last ------------------------------------------------------------

    def admit(self, try_to_admit: Callable[[Sequence], Admission], now: float = 0.0) -> None:
        """Try the first of the waiting in order, until there is no room for one; who is admitted runs."""
        for sequence in self.running:
            self._shares.note_turn(self._tickets[sequence.request_id].client, now)
        if self.is_full and not any(self._urgency(other, now) for other in self.running):
            return  # nobody would make room for anybody
        for sequence in self.next_in_line(_MOST_TRIES, now):
            if self.is_full and self.victim(now, below=sequence) is None:
                return
            admission = try_to_admit(sequence)
            if admission is Admission.NO_ROOM:
                return
            if admission is Admission.ADMITTED:
                self.waiting.remove(sequence)
                self.running.append(sequence)

    def next_in_line(self, count: int, now: float) -> list[Sequence]:
        """The first ``count`` of those that wait, in the order in which they are tried."""
        return nsmallest(count, self.waiting, key=lambda sequence: self._turn(sequence, now))

    @property
    def is_full(self) -> bool:
        """Whether as many run as may."""
        return len(self.running) >= self._max_num_seqs

    def victim(self, now: float, below: Sequence | None = None) -> Sequence | None:
        """Who has to make room first: of the least urgent that run, the one that came last.

        With ``below``, only one that is less urgent than this sequence; None if there is none.
        """
        candidates = [sequence for sequence in self.running if sequence.state in _PREEMPTIBLE]
        if below is not None:
            candidates = [other for other in candidates if self._urgency(other, now) > self._urgency(below, now)]
        return max(candidates, key=lambda sequence: self._age(sequence, now), default=None)

    def by_age(self, now: float) -> list[Sequence]:
        """Those that run, the last to make room first."""
        return sorted(self.running, key=lambda sequence: self._age(sequence, now))

    def waiting_by_priority(self) -> dict[Priority, int]:
        """How many wait, by the priority that they were given."""
        waiting = dict.fromkeys(Priority, 0)
        for sequence in self.waiting:
            waiting[self._tickets[sequence.request_id].priority] += 1
        return waiting

    def _urgency(self, sequence: Sequence, now: float) -> int:
        ticket = self._tickets[sequence.request_id]
        if ticket.is_awaited and sequence.state in (SequenceState.LOADING, SequenceState.PREFILLING):
            return 0
        return int(ticket.priority is Priority.BACKGROUND and now - ticket.since < PATIENCE_S)

    def _age(self, sequence: Sequence, now: float) -> tuple[int, int]:
        return self._urgency(sequence, now), sequence.request_id

    def _turn(self, sequence: Sequence, now: float) -> tuple[int, int, int]:
        place = self._shares.place(self._tickets[sequence.request_id].client, now)
        return self._urgency(sequence, now), place, sequence.request_id

    # -- the step --------------------------------------------------------------------------------

    def chunks(self, limit: int | None = None, now: float = 0.0) -> list[Chunk]:
        """This step's prefill: at most ``limit`` tokens in all, the most urgent and oldest sequences first."""
        limit = limit or self._prefill_step_size
        budget, chunks = limit, []
        for sequence in self.by_age(now):
            if sequence.state is SequenceState.PREFILLING:
                token_ids = sequence.next_chunk(limit)
                if len(token_ids) > budget:
                    break
                budget -= len(token_ids)
                chunks.append(Chunk(sequence, token_ids))
        return chunks

    def rows(self) -> list[Sequence]:
        """The sequences that decode in this step."""
        return [sequence for sequence in self.running if sequence.state is SequenceState.DECODING]
