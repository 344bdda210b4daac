"""Who is in memory: sequences are admitted while there is room, grow, and make room for more urgent ones."""

from collections.abc import Iterable, Mapping

from semantic.application.active_request import ActiveRequest
from semantic.application.joining import Joining
from semantic.application.ports.clock import Clock
from semantic.application.ports.model import ModelProfile
from semantic.application.ports.telemetry import Telemetry
from semantic.application.prefix_cache import PrefixCache
from semantic.application.scheduler import Admission, Scheduler
from semantic.domain.entities import Sequence, SequenceState
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import Reuse, Workspace

_READ_AHEAD = 4
"""For how many of those that wait blocks are read from the store."""


def can_preempt(reuse: Reuse, profile: ModelProfile) -> bool:
    """Whether a sequence can be taken up again just where it was, as it was.

    Where blocks at rest are rounded, or contexts can be taken up only where whole chunks end, it would go on with
    other values than its own.
    """
    return reuse in (Reuse.ANYWHERE, Reuse.AT_STATES) and profile.kv_at_rest == "exact"


class Residency:
    """With ``grows`` a sequence gets its blocks as it needs them, otherwise all at once; with ``preempts`` it may have
    to give them up.

    A preempted sequence leaves its context in the prefix cache, and in the store if there is one, and takes it up
    again from there. The oldest of the most urgent never has to give way, so that every request ends.
    """

    def __init__(
        self,
        *,
        requests: Mapping[RequestId, ActiveRequest],
        scheduler: Scheduler,
        cache: PrefixCache,
        joining: Joining,
        clock: Clock,
        telemetry: Telemetry,
        workspace: Workspace,
        grows: bool,
        preempts: bool,
    ) -> None:
        self._requests, self._scheduler, self._cache, self._joining = requests, scheduler, cache, joining
        self._clock, self._telemetry, self._workspace = clock, telemetry, workspace
        self._grows, self._preempts = grows and preempts, preempts
        self.preemptions = 0

    def forget(self, request_id: RequestId) -> None:
        """Drop what is known of a request that has ended."""
        self._joining.forget(request_id)

    def room_needed(self, num_tokens: int) -> int:
        """How many of the pool's blocks make room for a sequence that grows to so many tokens, and for its chunks."""
        return self._cache.transfer.room_needed(num_tokens, self._workspace.bytes_for_context(num_tokens))

    # -- coming in -------------------------------------------------------------------------------

    def admit(self) -> None:
        """Let those run that there is room for."""
        self._withhold_workspace(self._scheduler.running)
        self._scheduler.admit(self._try_to_admit, self._clock.monotonic())

    def prefetch(self) -> None:
        """Bring from the store what the next in line will need.

        Of those behind them nothing: it would be evicted again for whoever is before them.
        """
        if self._cache.transfer.tier is None:
            return
        for sequence in self._scheduler.next_in_line(_READ_AHEAD, self._clock.monotonic()):
            request = self._requests[sequence.request_id]
            if not request.is_prefetched:
                request.is_prefetched = True
                self._cache.prefetch(request.lease, sequence.num_prefill_tokens)

    def _try_to_admit(self, sequence: Sequence) -> Admission:
        request = self._requests[sequence.request_id]
        running = [(other, self._requests[other.request_id].lease) for other in self._scheduler.running]
        cached = self._cache.match(request.lease, sequence.num_prefill_tokens).num_tokens
        other = self._joining.worth_waiting_for(sequence, request.lease, cached, running)
        if other is not None:
            self._scheduler.note_awaited(other, by=sequence)
            return Admission.HELD_BACK
        admitted = self._acquire(request)
        while not admitted and self._make_room(below=sequence):
            admitted = self._acquire(request)
        if not admitted and not self._scheduler.running and self._drop_pins(sequence):
            admitted = self._acquire(request)
        return Admission.ADMITTED if admitted else Admission.NO_ROOM

    def _acquire(self, request: ActiveRequest) -> bool:
        sequence = request.sequence

        def settled(ok: bool) -> None:
            if not ok:
                sequence.wait()
                self._scheduler.put_back(sequence)

        if self._scheduler.is_full or not self._withhold_workspace([*self._scheduler.running, sequence]):
            return False
        if self._cache.acquire(sequence, request.lease, self._tokens_to_reserve(sequence), settled):
            return True
        self._withhold_workspace(self._scheduler.running)  # nobody else has to do without what this one would need
        return False

    def _withhold_workspace(self, sequences: Iterable[Sequence]) -> bool:
        """Keep free what the longest of these needs besides its blocks, before any of its chunks is begun."""
        longest = max((sequence.max_total_tokens for sequence in sequences), default=0)
        needed = self._workspace.bytes_for_context(longest)
        return not self._workspace.depends_on_context or self._cache.transfer.withhold(needed)

    def _tokens_to_reserve(self, sequence: Sequence) -> int:
        """What a sequence gets room for before it runs: all that it can hold, or a block beyond what it has."""
        most = sequence.max_total_tokens - 1  # the last token drawn is never fed back
        return min(most, sequence.num_tokens + sequence.block_table.block_tokens) if self._grows else most

    # -- growing ---------------------------------------------------------------------------------

    def grow(self) -> None:
        """Give those that decode a block for their next token; those that there is no room for sit out a step."""
        for sequence in self._scheduler.by_age(self._clock.monotonic()):
            lease = self._requests[sequence.request_id].lease
            while sequence.state is SequenceState.DECODING and not sequence.room:
                if not self._cache.grow(sequence, lease) and not self._drop_pins(sequence) and not self._make_room():
                    break

    # -- making room -----------------------------------------------------------------------------

    def _make_room(self, below: Sequence | None = None) -> bool:
        """Preempt the one that has to go first, or the first that is less urgent than ``below``.

        Nobody has to go while room is coming anyway, nor the only one that runs.
        """
        if not self._preempts:
            return False
        needs_place = below is not None and self._scheduler.is_full
        if not needs_place and self._cache.transfer.is_room_coming():
            return False
        if below is None and (len(self._scheduler.running) == 1 or self._is_loading()):
            return False
        victim = self._scheduler.victim(self._clock.monotonic(), below)
        if victim is None:
            return False
        self._preempt(self._requests[victim.request_id])
        return True

    def _is_loading(self) -> bool:
        """Whether one that runs can't give way yet, though it may be the one that has to."""
        return any(sequence.state is SequenceState.LOADING for sequence in self._scheduler.running)

    def _drop_pins(self, sequence: Sequence) -> bool:
        dropped = self._cache.unpin_all()
        if dropped:
            self._telemetry.warning("cache.pins.dropped", request_id=sequence.request_id, reason="nothing else fits")
        return dropped

    def _preempt(self, request: ActiveRequest) -> None:
        """Let a running sequence wait again; what it has computed stays in the cache, and in the store."""
        sequence, lease = request.sequence, request.lease
        self._cache.finish(sequence, lease, keep=True)
        sequence.preempt()
        self._scheduler.put_back(sequence)
        self._joining.forget(sequence.request_id)
        request.lease = self._cache.lease(lease.root, sequence.token_ids, lease.owner)
        request.is_prefetched = False
        self.preemptions += 1
        priority = str(request.terms.priority)
        self._telemetry.event(
            "request.preempted",
            request_id=sequence.request_id,
            num_tokens=sequence.num_tokens,
            priority=priority,
        )
