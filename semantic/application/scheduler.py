"""Decides what a step works on. First come, first served."""

from collections import deque
from collections.abc import Callable
from enum import Enum

from attrs import frozen

from semantic.domain.entities import Sequence, SequenceState


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


class Scheduler:
    """Keeps the order of the waiting and admits them while there is room.

    A sequence is admitted with every block that it can ever need, so a running one never has to wait for memory.
    A chunk is cut at multiples of ``prefill_step_size`` of its own prompt, whatever else is in the batch: output must
    not depend on batch mates.
    """

    def __init__(self, *, max_num_seqs: int, prefill_step_size: int) -> None:
        self._max_num_seqs = max_num_seqs
        self._prefill_step_size = prefill_step_size
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Let a sequence that was admitted wait again, before all others."""
        self.running.remove(sequence)
        self.waiting.appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def admit(self, try_to_admit: Callable[[Sequence], Admission]) -> None:
        """Try the waiting in order, until there is no room for one; who is admitted runs."""
        for sequence in tuple(self.waiting):
            if len(self.running) >= self._max_num_seqs:
                return
            admission = try_to_admit(sequence)
            if admission is Admission.NO_ROOM:
                return
            if admission is Admission.ADMITTED:
                self.waiting.remove(sequence)
                self.running.append(sequence)

    def chunks(self) -> list[Chunk]:
        """This step's prefill: at most ``prefill_step_size`` tokens in all, oldest sequences first."""
        budget, chunks = self._prefill_step_size, []
        for sequence in self.running:
            if sequence.state is SequenceState.PREFILLING:
                token_ids = sequence.next_chunk(self._prefill_step_size)
                if len(token_ids) > budget:
                    break
                budget -= len(token_ids)
                chunks.append(Chunk(sequence, token_ids))
        return chunks

    def rows(self) -> list[Sequence]:
        """The sequences that decode in this step."""
        return [sequence for sequence in self.running if sequence.state is SequenceState.DECODING]


def blocks_needed(sequence: Sequence) -> int:
    """Blocks for all that a sequence may ever hold: the last token drawn is never fed back."""
    return sequence.block_table.blocks_needed(sequence.max_total_tokens - 1)
