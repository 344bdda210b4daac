"""Cache memories of token ids: one where blocks are the memory, as with pages, and one where they are sealed copies.

They notice what a real memory would get wrong silently: writing past the attached blocks or into rows that are filled,
using a closed cache, resuming where no state was kept.
"""

from array import array
from collections.abc import Iterable, Sequence

from attrs import define, field

from semantic.application.ports.block_store import Place, Tensor, TensorHeader, pieces_of
from semantic.domain.errors import BlockDamagedError
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import ModelCacheSpec, Reuse


@define
class FakeBlock:
    """Room for token ids; the first ``rows`` are filled."""

    tokens: "array[int]"
    rows: int = 0
    has_state: bool = False
    was_attached: bool = False

    def held(self, num_tokens: int) -> list[int]:
        """The first ``num_tokens`` tokens, which must be filled."""
        assert num_tokens <= self.rows, f"{num_tokens} tokens were read and {self.rows} are there"
        return list(self.tokens[:num_tokens])


@define(eq=False)
class FakeCache:
    """The token ids of one sequence."""

    _memory: "FakeMemory"
    block_ids: list[BlockId] = field(factory=list)
    num_tokens: int = 0
    is_open: bool = True
    own: list[int] = field(factory=list)  # the tokens, where blocks are accounting

    @property
    def nbytes(self) -> int:
        """Bytes of the attached blocks, or of the tokens."""
        return self._memory.bytes_of(self)

    @property
    def token_ids(self) -> list[int]:
        """What was written."""
        return self._memory.read(self)

    def append(self, token_ids: Sequence[int]) -> None:
        """Write tokens behind those that are there."""
        assert self.is_open, "a closed cache was written to"
        self._memory.write(self, token_ids)


class FakeMemory:
    """Blocks of token ids, by block id, written where they stand."""

    layout = "paged"
    seals_in_place = True

    def __init__(self, spec: ModelCacheSpec) -> None:
        self.spec = spec
        self.blocks: dict[BlockId, FakeBlock] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks that were not discarded."""
        return len(self.blocks) * self.spec.bytes_per_block

    def expect(self, num_blocks: int) -> None:
        """Nothing to do."""

    def open(self) -> FakeCache:
        """A new, empty cache."""
        return FakeCache(self)

    def attach(self, cache: FakeCache, block_ids: Sequence[BlockId]) -> None:
        """Append blocks to the cache's table."""
        for block_id in block_ids:
            self._block(block_id).was_attached = True
            cache.block_ids.append(block_id)

    def resume(self, cache: FakeCache, block_ids: Sequence[BlockId], num_tokens: int) -> None:
        """Attach filled blocks. One that was received for this cache may hold more, and is written on all the same."""
        last = self._block(block_ids[-1])
        if not last.was_attached:
            last.rows = min(last.rows, num_tokens - (len(block_ids) - 1) * self.spec.block_tokens)
        self.attach(cache, block_ids)
        cache.num_tokens = num_tokens
        assert len(self.read(cache)) == num_tokens, "the blocks hold fewer tokens than are resumed"

    def copy(self, source: BlockId, target: BlockId, num_tokens: int) -> None:
        """Fill a fresh block."""
        block = self._block(target)
        assert block.rows == 0, "a block was copied over another's contents"
        self._fill(block, self.blocks[source].held(num_tokens))

    def live_bytes(self, num_tokens: int) -> int:
        """Whole blocks."""
        return self.spec.blocks_for_tokens(num_tokens) * self.spec.bytes_per_block

    def sealed_bytes(self, start: int, num_tokens: int, *, with_state: bool) -> int:
        """A whole block's."""
        return self.spec.bytes_per_block

    def seal(self, cache: FakeCache, block_id: BlockId, start: int, num_tokens: int) -> None:
        """Nothing to do: the tokens are in the block."""
        assert self.blocks[block_id].held(num_tokens) == self.read(cache)[start : start + num_tokens]

    def trim(self, cache: FakeCache, num_tokens: int) -> None:
        """Cut back; the rows are free to be written again."""
        assert num_tokens <= cache.num_tokens, f"{cache.num_tokens} tokens can't be cut back to {num_tokens}"
        for position in range(num_tokens, cache.num_tokens):
            index, row = divmod(position, self.spec.block_tokens)
            block = self.blocks[cache.block_ids[index]]
            block.rows = min(block.rows, row)
        cache.num_tokens = num_tokens

    def contents(self, block_id: BlockId, num_tokens: int) -> list[Tensor]:
        """The token ids."""
        self.blocks[block_id].held(num_tokens)
        return [self._tensor(self.blocks[block_id], num_tokens)]

    def receive(self, block_id: BlockId, num_tokens: int) -> Place:
        """Room for token ids."""
        block = self._block(block_id)

        def place(headers: Sequence[TensorHeader]) -> list[memoryview]:
            tensor = self._tensor(block, num_tokens)
            if [header for header in headers if header.name != "state"] != [tensor.header]:
                raise BlockDamagedError(f"the block holds {headers}, expected {tensor.header}")
            block.rows, block.has_state = num_tokens, len(headers) > 1
            return pieces_of([tensor, *([_STATE] if block.has_state else [])])

        return place

    def close(self, cache: FakeCache) -> None:
        """Forget the cache; its blocks stay."""
        cache.is_open, cache.block_ids, cache.own, cache.num_tokens = False, [], [], 0

    def discard(self, block_ids: Iterable[BlockId]) -> None:
        """Drop blocks."""
        for block_id in block_ids:
            self.blocks.pop(block_id, None)

    def clear(self) -> None:
        """Drop all blocks."""
        self.blocks.clear()

    # -- what caches call ------------------------------------------------------------------------

    def bytes_of(self, cache: FakeCache) -> int:
        """Bytes of the attached blocks."""
        return len(cache.block_ids) * self.spec.bytes_per_block

    def read(self, cache: FakeCache) -> list[int]:
        """The tokens in the attached blocks."""
        held = [token for block_id in cache.block_ids for token in self.blocks[block_id].tokens]
        return held[: cache.num_tokens]

    def write(self, cache: FakeCache, token_ids: Sequence[int]) -> None:
        """Write behind the rows that are filled."""
        for token in token_ids:
            index, row = divmod(cache.num_tokens, self.spec.block_tokens)
            assert index < len(cache.block_ids), "a token was written past the attached blocks"
            block = self.blocks[cache.block_ids[index]]
            assert block.rows == row, (
                f"row {row} was written and {block.rows} rows are filled: two writers in one block"
            )
            block.tokens[row] = token
            block.rows = row + 1
            cache.num_tokens += 1

    def _block(self, block_id: BlockId) -> FakeBlock:
        return self.blocks.setdefault(block_id, FakeBlock(array("I", bytes(4 * self.spec.block_tokens))))

    def _fill(self, block: FakeBlock, token_ids: Sequence[int]) -> None:
        block.tokens[: len(token_ids)] = array("I", token_ids)
        block.rows = len(token_ids)

    def _tensor(self, block: FakeBlock, num_tokens: int) -> Tensor:
        view = memoryview(block.tokens).cast("B")[: 4 * num_tokens]
        return Tensor(TensorHeader("tokens", "U32", (num_tokens,)), (view,))


class FakeContiguousMemory(FakeMemory):
    """Caches own their tokens; blocks are copies that :meth:`seal` makes. ``reuse`` says where they may be resumed."""

    layout = "contiguous"
    seals_in_place = False

    def __init__(self, spec: ModelCacheSpec, reuse: Reuse = Reuse.AT_STATES) -> None:
        super().__init__(spec)
        self._reuse = reuse
        self._open: set[FakeCache] = set()

    @property
    def nbytes(self) -> int:
        """Bytes of sealed blocks and of open caches."""
        return super().nbytes + sum(self.bytes_of(cache) for cache in self._open)

    def open(self) -> FakeCache:
        """A new, empty cache."""
        cache = FakeCache(self)
        self._open.add(cache)
        return cache

    def attach(self, cache: FakeCache, block_ids: Sequence[BlockId]) -> None:
        """Keep the books."""
        cache.block_ids.extend(block_ids)

    def resume(self, cache: FakeCache, block_ids: Sequence[BlockId], num_tokens: int) -> None:
        """Copy the tokens of sealed blocks."""
        size = self.spec.block_tokens
        for i, block_id in enumerate(block_ids):
            cache.own += self.blocks[block_id].held(min(size, num_tokens - i * size))
        cache.num_tokens = num_tokens
        if self._reuse is Reuse.AT_STATES:
            last = self.blocks[block_ids[-1]]
            assert last.has_state, "no state was kept here"
            assert last.rows == num_tokens - (len(block_ids) - 1) * size, "the state is of another position"

    def copy(self, source: BlockId, target: BlockId, num_tokens: int) -> None:
        """Never needed."""
        raise AssertionError("sealed blocks are not copied")

    def seal(self, cache: FakeCache, block_id: BlockId, start: int, num_tokens: int) -> None:
        """Copy tokens into a fresh block."""
        assert block_id not in self.blocks, "a block was sealed over another's contents"
        block = self._block(block_id)
        self._fill(block, self.read(cache)[start : start + num_tokens])
        block.has_state = self._reuse is Reuse.AT_STATES and start + num_tokens == cache.num_tokens

    def trim(self, cache: FakeCache, num_tokens: int) -> None:
        """Cut back."""
        assert num_tokens <= cache.num_tokens, f"{cache.num_tokens} tokens can't be cut back to {num_tokens}"
        del cache.own[num_tokens:]
        cache.num_tokens = num_tokens

    def contents(self, block_id: BlockId, num_tokens: int) -> list[Tensor]:
        """The token ids, and a mark for the state."""
        block = self.blocks[block_id]
        return [*super().contents(block_id, num_tokens), *([_STATE] if block.has_state else [])]

    def close(self, cache: FakeCache) -> None:
        """Forget the cache."""
        self._open.discard(cache)
        super().close(cache)

    def bytes_of(self, cache: FakeCache) -> int:
        """Whole blocks for its tokens."""
        return self.spec.blocks_for_tokens(cache.num_tokens) * self.spec.bytes_per_block

    def read(self, cache: FakeCache) -> list[int]:
        """Its own tokens."""
        return cache.own[: cache.num_tokens]

    def write(self, cache: FakeCache, token_ids: Sequence[int]) -> None:
        """Append."""
        cache.own += token_ids
        cache.num_tokens += len(token_ids)
        room = len(cache.block_ids) * self.spec.block_tokens
        assert cache.num_tokens <= room, "a token was written past the attached blocks"


_STATE = Tensor(TensorHeader("state", "U8", (1,)), (memoryview(bytearray(1)),))
