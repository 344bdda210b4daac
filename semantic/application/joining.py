"""Not computing a prefix twice at the same time: who waits for whose prefill."""

from collections.abc import Iterable
from operator import itemgetter

from semantic.application.lease import Lease
from semantic.domain.entities import Sequence, SequenceState
from semantic.domain.identifiers import RequestId
from semantic.domain.services import PrefixIndex
from semantic.domain.value_objects import Reuse, common_tokens

LEAST_TOKENS = 16
"""Fewer tokens than this are computed again rather than waited for."""

_UNDER_WAY = (SequenceState.LOADING, SequenceState.PREFILLING)


class Joining:
    """Compares prompts that wait with prompts that are being prefilled; each pair once."""

    def __init__(self, index: PrefixIndex, chunk_tokens: int) -> None:
        self._index, self._chunk_tokens = index, chunk_tokens
        self._common: dict[tuple[RequestId, RequestId], int] = {}

    def worth_waiting_for(
        self, sequence: Sequence, lease: Lease, cached: int, running: Iterable[tuple[Sequence, Lease]]
    ) -> Sequence | None:
        """Whose prefill, which is under way, will leave behind much more of this prompt than ``cached`` tokens.

        Where contexts can only be taken up at kept states, the other prefill is asked to stop where the prompts part.
        """
        promises = [
            (self._promise(sequence, lease, other, its_lease), other)
            for other, its_lease in running
            if other.state in _UNDER_WAY and its_lease.root == lease.root
        ]
        most, other = max(promises, key=itemgetter(0), default=(0, None))
        if other is None or most - cached < LEAST_TOKENS:
            return None
        if self._index.reuse is Reuse.AT_STATES:
            other.boundaries.add(most)
        return other

    def forget(self, request_id: RequestId) -> None:
        """Drop what was compared with a request that has ended."""
        self._common = {pair: common for pair, common in self._common.items() if request_id not in pair}

    def _promise(self, sequence: Sequence, lease: Lease, other: Sequence, its_lease: Lease) -> int:
        """How many of the prompt's tokens the other one's prefill will leave behind."""
        pair = (sequence.request_id, other.request_id)
        if pair not in self._common:
            self._common[pair] = common_tokens(lease.tokens, its_lease.tokens)
        usable = min(self._common[pair], sequence.num_prefill_tokens, other.num_prefill_tokens)
        match self._index.reuse:
            case Reuse.ANYWHERE:
                return usable
            case Reuse.AT_CHUNKS:
                return usable // self._chunk_tokens * self._chunk_tokens
            case Reuse.AT_STATES if usable > max(other.num_computed_tokens, its_lease.num_tokens):
                return usable
        return 0
