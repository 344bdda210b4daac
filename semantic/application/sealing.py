"""Leaving context behind: what a sequence has computed is indexed, block by block, and saved."""

from semantic.application.block_transfer import BlockTransfer
from semantic.application.lease import Lease
from semantic.application.ports.model import CacheMemory
from semantic.domain.entities import KVBlock, Sequence
from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.services import PrefixIndex
from semantic.domain.services.references import References
from semantic.domain.value_objects import Reuse, block_hash, pack_tokens
from semantic.domain.value_objects.packed_tokens import TOKEN_BYTES


class Sealing:
    """Indexes whole blocks as they become complete, and the part behind them where a context ends.

    With pages the sequence's own blocks are indexed as they stand. Otherwise they are copied into blocks of their
    own, as long as there is room that nobody holds.
    """

    def __init__(
        self,
        *,
        index: PrefixIndex,
        memory: CacheMemory,
        transfer: BlockTransfer,
        references: References,
        chunk_tokens: int,
    ) -> None:
        self._index, self._memory = index, memory
        self._transfer, self._references = transfer, references
        self._chunk_tokens = chunk_tokens

    def prefilled(self, sequence: Sequence, lease: Lease) -> None:
        """After a chunk: whole blocks, and the part behind them if prefill is over or the chunk ends on purpose."""
        computed = sequence.num_computed_tokens
        on_purpose = computed in sequence.boundaries or computed == sequence.num_prefill_tokens
        self._seal(sequence, lease, lease.tokens, tail=on_purpose, save_tail=self._index.reuse is Reuse.AT_STATES)

    def decoded(self, sequence: Sequence, lease: Lease) -> None:
        """After a decode step: the block that it completed, if it did."""
        if sequence.num_computed_tokens % self._index.block_tokens == 0:
            self._seal(sequence, lease, pack_tokens(sequence.token_ids), tail=False, save_tail=False)

    def ended(self, sequence: Sequence, lease: Lease) -> None:
        """When a sequence ends: all that it computed, and what it continued if that could not be saved before."""
        for block in map(self._index.get, lease.hashes):
            if block is not None and block.is_resident:
                self._transfer.save(block)
        self._seal(sequence, lease, pack_tokens(sequence.token_ids), tail=True, save_tail=True)

    def _seal(self, sequence: Sequence, lease: Lease, tokens: bytes, *, tail: bool, save_tail: bool) -> None:
        """The context is held meanwhile, so that none of it is evicted to make room for what continues it."""
        size, end = self._index.block_tokens, self._sealable(sequence)
        if end <= len(lease.hashes) * size:
            return
        if lease.hashes and self._index.get(lease.hashes[-1]) is None:
            return  # evicted or forgotten, so that what continues it would never be found
        held = self._transfer.hold(map(self._index.get, lease.hashes))
        while (len(lease.hashes) + 1) * size <= end:
            block = self._seal_block(sequence, lease, tokens, (len(lease.hashes) + 1) * size, save=True)
            if block is None:
                break
            lease.hashes.append(block.hash)
            held += self._transfer.hold([block])
        else:
            if tail and end > len(lease.hashes) * size:
                self._seal_block(sequence, lease, tokens, end, save=save_tail)
        self._transfer.release(held[::-1])

    def _sealable(self, sequence: Sequence) -> int:
        """How far the context may be taken up again, in tokens."""
        if self._index.reuse is Reuse.NEVER:
            return 0
        if self._index.reuse is Reuse.AT_CHUNKS:  # only what prefill computed in whole chunks
            prefilled = min(sequence.num_computed_tokens, sequence.num_prefill_tokens)
            return prefilled // self._chunk_tokens * self._chunk_tokens
        return sequence.num_computed_tokens

    def _seal_block(self, sequence: Sequence, lease: Lease, tokens: bytes, end: int, *, save: bool) -> KVBlock | None:
        """Index the block behind the lease's whole ones that ends at ``end``; None if there is no room for it."""
        start = len(lease.hashes) * self._index.block_tokens
        parent = lease.hashes[-1] if lease.hashes else lease.root
        own = tokens[start * TOKEN_BYTES : end * TOKEN_BYTES]
        has_state = self._index.reuse is Reuse.AT_STATES and end == sequence.num_computed_tokens
        block = self._present(parent, own, has_state=has_state)
        if block is None:
            block = KVBlock(block_hash(parent, own), parent, start, own, has_state)
            block.block_id = block_id = self._place(sequence, lease, block)
            if block_id is None:
                return None
            block = self._index.add(block)
            self._transfer.keep(block_id)
            if not self._memory.seals_in_place:
                self._transfer.release([block_id])
        if save and block.is_resident:
            self._transfer.save(block)
        if self._index.reuse is Reuse.ANYWHERE:
            self._supersede(block, lease.owner)
        return block

    def _present(self, parent: BlockHash, tokens: bytes, *, has_state: bool) -> KVBlock | None:
        """A block that is there already and serves as well as what could be sealed."""
        if self._index.reuse is Reuse.AT_STATES:
            present = self._index.get(block_hash(parent, tokens))
        else:
            present = self._index.version_with(parent, tokens)
        if present is None or (present.has_state and not has_state):
            return present
        if has_state and not present.has_state:
            self._transfer.remove(present)  # it was sealed where no state was to be had
            return None
        if self._transfer.place_of(present) is None:
            return None
        self._transfer.touch([present])
        return present

    def _place(self, sequence: Sequence, lease: Lease, block: KVBlock) -> BlockId | None:
        """The memory that holds the block's tokens now: the sequence's own, or a copy."""
        if self._memory.seals_in_place:
            block_id = sequence.block_table.block_ids[block.start // self._index.block_tokens]
        else:
            copy = self._transfer.allocate_for(block)
            if copy is None:
                return None
            block_id = copy
        self._memory.seal(lease.cache, block_id, block.start, block.num_tokens)
        return block_id

    def _supersede(self, block: KVBlock, owner: object) -> None:
        """A longer version makes the shorter ones superfluous, unless another agent refers to them.

        In the store they stay until the longer one is saved.
        """
        for shorter in self._index.shorter_versions(block):
            if not self._references.is_shared(shorter.hash, owner):
                self._transfer.supersede(shorter, block)
