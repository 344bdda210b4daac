"""Pages for what runs, quantised blocks for what rests.

A running sequence computes on exact pages of its own. What it leaves behind is quantised, and whoever takes it up, at
once or after a restart, gets the quantised values: output does not depend on where a block was found.
"""

from collections.abc import Iterable, Iterator, Sequence

from semantic.adapters.mlx.host_block import HostBlock
from semantic.adapters.mlx.numpy_blas import NumpyBlas
from semantic.adapters.mlx.paged_attention import PagedAttention
from semantic.adapters.mlx.paged_cache import PagedMemory, PagedSequenceCache
from semantic.adapters.mlx.rows_at_rest import LayerRows, RowCodec, RowsAtRest
from semantic.adapters.mlx.spare_memory import SpareMemory
from semantic.adapters.mlx.team import Team
from semantic.application.ports.block_store import Place, Tensor
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import ModelCacheSpec

_TOGETHER = 900_000
"""Numbers that are decoded together: ten layers of a block of the default model. Fewer make numpy's calls short, and
two threads wait for each other (ADR 0013)."""


class PagedMemoryAtRest(PagedMemory):
    """Pages that belong to open caches, whose blocks are accounting, and sealed blocks beside them."""

    seals_in_place = False

    def __init__(
        self, spec: ModelCacheSpec, num_blocks: int, attention: PagedAttention, codec: RowCodec, team: Team
    ) -> None:
        super().__init__(spec, num_blocks, attention)
        self._team, self._numpy_blas = team, NumpyBlas()
        self._rows = RowsAtRest(spec, codec)
        self._sealed: dict[BlockId, HostBlock] = {}
        self._open: set[PagedSequenceCache] = set()
        self._spare = SpareMemory()

    def with_codec(self, codec: RowCodec) -> "PagedMemoryAtRest":
        """Seal with ``codec`` from now on, and read what was sealed with it."""
        self._rows = RowsAtRest(self.spec, codec)
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of all pages and of all sealed blocks."""
        return super().nbytes + sum(block.nbytes for block in self._sealed.values())

    def expect(self, num_blocks: int) -> None:
        """Have memory found for so many blocks, and for the pages that they are decoded into."""
        super().expect(num_blocks)
        self._spare.provide(num_blocks, self._rows.nbytes(self.spec.block_tokens))

    def attach(self, cache: PagedSequenceCache, block_ids: Sequence[BlockId]) -> None:
        """Give the cache a page for each of its blocks. It keeps them until it is closed."""
        cache.table.extend(self._arena.take() for _ in block_ids)
        self._open.add(cache)

    def close(self, cache: PagedSequenceCache) -> None:
        """Free the cache's pages."""
        for slot in cache.table:
            self._arena.give_back(slot)
        self._open.discard(cache)
        super().close(cache)

    def resume(self, cache: PagedSequenceCache, block_ids: Sequence[BlockId], num_tokens: int) -> None:
        """Write what sealed blocks hold into the cache's own pages, which are attached already; on the whole team."""
        assert cache.num_tokens == 0, "only an empty cache can resume"
        blocks = [self._sealed[block_id] for block_id in block_ids]
        parts = iter(
            [
                (block, layers)
                for slot, block in zip(cache.table, blocks, strict=False)
                for layers in _some_at_a_time(self._layers_of(slot, block))
            ]
        )
        with self._numpy_blas.single_threaded():
            self._team.run(lambda: self._rows.get(parts))
        cache.num_tokens = num_tokens

    def copy(self, source: BlockId, target: BlockId, num_tokens: int) -> None:
        """Never needed: a sealed block isn't written on, so a part of it can be resumed where it is."""
        raise AssertionError("sealed blocks are not copied")

    def sealed_bytes(self, start: int, num_tokens: int, *, with_state: bool) -> int:
        """What the codes and scales of so many tokens take."""
        return self._rows.nbytes(num_tokens)

    def seal(self, cache: PagedSequenceCache, block_id: BlockId, start: int, num_tokens: int) -> None:
        """Quantise the rows of the page that begins at ``start``."""
        block = self._sealed[block_id] = HostBlock(num_tokens)
        for layer in self._layers_of(cache.table[start // self.spec.block_tokens], block):
            self._rows.put(block, *layer)

    def contents(self, block_id: BlockId, num_tokens: int) -> list[Tensor]:
        """The block's arrays, which hold just as many tokens as it was sealed with."""
        return self._sealed[block_id].tensors()

    def receive(self, block_id: BlockId, num_tokens: int) -> Place:
        """Room for the block's arrays."""
        block = self._sealed[block_id] = HostBlock(num_tokens)
        return block.place(lambda headers: self._rows.check(headers, num_tokens), self._spare.take)

    def discard(self, block_ids: Iterable[BlockId]) -> None:
        """Free sealed blocks that nobody holds; a running sequence's pages go with its cache."""
        for block_id in block_ids:
            self._sealed.pop(block_id, None)

    def _layers_of(self, slot: int, block: HostBlock) -> Iterator[LayerRows]:
        """A block's layers, each with the rows of a page that it goes to or comes from."""
        arrays = list(self._arena.rows(slot, block.num_tokens))
        for layer, (keys, values) in enumerate(zip(arrays[::2], arrays[1::2], strict=True)):
            yield layer, keys, values

    def clear(self) -> None:
        """Free everything."""
        for cache in list(self._open):
            self.close(cache)
        self._sealed.clear()
        self._spare.clear()


def _some_at_a_time(layers: Iterable[LayerRows]) -> Iterator[list[LayerRows]]:
    """The same layers in portions, each but the last of that many numbers at least."""
    some: list[LayerRows] = []
    numbers = 0
    for layer in layers:
        _, keys, values = layer
        some.append(layer)
        numbers += keys.size + values.size
        if numbers >= _TOGETHER:
            yield some
            some, numbers = [], 0
    if some:
        yield some
