"""Decides what a step works on. First come, first served."""

from collections import deque
from collections.abc import Iterator

from attrs import frozen

from semantic.domain.entities import Sequence, SequenceState
from semantic.domain.services import BlockPool


@frozen
class Chunk:
    """The next ``token_ids`` of a sequence's prompt."""

    sequence: Sequence
    token_ids: tuple[int, ...]


class Scheduler:
    """Keeps the order of the waiting and admits them while the pool and the batch have room.

    A sequence is admitted with every block that it can ever need, so a running one never has to wait for memory.
    A chunk is cut at multiples of ``prefill_step_size`` of its own prompt, whatever else is in the batch: output must
    not depend on batch mates.
    """

    def __init__(self, pool: BlockPool, *, max_num_seqs: int, prefill_step_size: int) -> None:
        self._pool = pool
        self._max_num_seqs = max_num_seqs
        self._prefill_step_size = prefill_step_size
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)

    def admit(self) -> Iterator[Sequence]:
        """Move sequences from waiting to running, in order, until one does not fit. Yields each with its blocks."""
        while self.waiting and len(self.running) < self._max_num_seqs:
            sequence = self.waiting[0]
            needed = blocks_needed(sequence)
            if needed > self._pool.num_available:
                return
            self.running.append(self.waiting.popleft())
            sequence.admit(self._pool.allocate(needed).block_ids)
            yield sequence

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
