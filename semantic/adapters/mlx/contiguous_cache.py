"""Contiguous caches: mlx_lm's own, one list per sequence. MLX holds the memory; live sequences' blocks are accounting.

A block that is sealed is a copy in host memory (:mod:`semantic.adapters.mlx.sealed_block`): a slice that aliased a
live cache would make its next write copy the whole.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache, RotatingKVCache

from semantic.adapters.mlx.cache_probe import flatten_caches
from semantic.adapters.mlx.host_block import expect
from semantic.adapters.mlx.joined_rows import JoinAttention, JoinedRows, state_shapes
from semantic.adapters.mlx.sealed_block import SealedBlock, dtype_name, joined
from semantic.adapters.mlx.stacked_layer import StackedLayer
from semantic.adapters.mlx.token_rows import keeps_rows, put_rows, row_shapes
from semantic.application.ports.block_store import Place, Tensor, TensorHeader
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import LayerKind, ModelCacheSpec


class ContiguousSequenceCache:
    """One sequence's ``layers``, as ``mlx_lm.models.cache.make_prompt_cache`` made them."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        self.num_tokens = 0

    @property
    def leaves(self) -> list[Any]:
        """The caches one by one, lists opened."""
        return list(flatten_caches(self.layers))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that the layers hold, room for growth included."""
        return sum(leaf.nbytes for leaf in self.leaves if not leaf.empty())

    def evaluate(self) -> None:
        """Compute what is still lazy, so that nothing hangs on the tokens that led here."""
        mx.eval([array for _, array in self._arrays()])

    def _arrays(self) -> list[tuple[str, mx.array]]:
        states = tree_flatten([layer.state for layer in self.layers])
        return [(name, state) for name, state in states if isinstance(state, mx.array)]


class ContiguousMemory:
    """The open caches of an engine. ``make_layers`` makes one sequence's layer caches.

    ``join_attention``: how the attention caches of several sequences are joined for one decode step; if it
    ``serves_alone``, those of a single one are too, also for a prefill chunk.
    """

    layout = "contiguous"
    seals_in_place = False

    def __init__(
        self,
        make_layers: Callable[[], list[Any]],
        spec: ModelCacheSpec,
        join_attention: JoinAttention = StackedLayer,
        *,
        serves_alone: bool = False,
    ) -> None:
        self._serves_alone = serves_alone
        self._make_layers, self._spec, self._join_attention = make_layers, spec, join_attention
        self._joined: JoinedRows | None = None
        self._open: set[ContiguousSequenceCache] = set()
        self._sealed: dict[BlockId, SealedBlock] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all open caches and of all sealed blocks."""
        return sum(cache.nbytes for cache in self._open) + sum(block.nbytes for block in self._sealed.values())

    def expect(self, num_blocks: int) -> None:
        """Nothing to do: memory is made as blocks come."""

    def open(self) -> ContiguousSequenceCache:
        """A new, empty cache."""
        cache = ContiguousSequenceCache(self._make_layers())
        self._open.add(cache)
        return cache

    def attach(self, cache: ContiguousSequenceCache, block_ids: Sequence[BlockId]) -> None:
        """Nothing to do: the layers grow by themselves; the pool keeps the books."""

    def resume(self, cache: ContiguousSequenceCache, block_ids: Sequence[BlockId], num_tokens: int) -> None:
        """Build the layers from sealed blocks: rows put together, state as it was at the last block's end."""
        assert cache.num_tokens == 0, "only an empty cache can resume"
        blocks = [self._sealed[block_id] for block_id in block_ids]
        for i, layer in enumerate(cache.leaves):
            if keeps_rows(layer):
                put_rows(layer, partial(self._rows, blocks, num_tokens, i), num_tokens)
            else:
                blocks[-1].restore_state(i, layer)
        cache.num_tokens = num_tokens
        cache.evaluate()

    def copy(self, source: BlockId, target: BlockId, num_tokens: int) -> None:
        """Never needed: a sealed block isn't written on, so a part of it can be resumed where it is."""
        raise AssertionError("contiguous blocks are not copied")

    def live_bytes(self, num_tokens: int) -> int:
        """Rows in whole blocks, as mlx_lm's caches grow, and windows as far as they are filled.

        While a prompt is read, a window holds up to a chunk more; the next decode step drops that.
        """
        return self._spec.live_bytes_at(num_tokens)

    def sealed_bytes(self, start: int, num_tokens: int, *, with_state: bool) -> int:
        """Rows for each token, and the states: a window of what it holds by then, a recurrent one whole."""
        rows = sum(header.nbytes for header in self._expected(num_tokens))
        return rows + (self._spec.state_bytes_at(start + num_tokens) if with_state else 0)

    def seal(self, cache: ContiguousSequenceCache, block_id: BlockId, start: int, num_tokens: int) -> None:
        """Copy the tokens' rows, and at the cache's end the state of layers that have no rows."""
        block = self._sealed[block_id] = SealedBlock(num_tokens)
        block.fill(cache.leaves, start, num_tokens, with_state=start + num_tokens == cache.num_tokens)

    def can_trim(self, cache: ContiguousSequenceCache, num_tokens: int) -> bool:
        """Whether so many tokens more could be cut off again: a window forgets what it has passed."""
        return all(_can_trim(layer, num_tokens) for layer in cache.leaves)

    def trim(self, cache: ContiguousSequenceCache, num_tokens: int) -> None:
        """Cut every layer. What is cut was never beyond a window (:meth:`can_trim`)."""
        surplus = cache.num_tokens - num_tokens
        assert surplus >= 0, (num_tokens, cache.num_tokens)
        for layer in cache.leaves if surplus else ():
            cut = layer.trim(surplus)
            assert cut == surplus, f"a {type(layer).__name__} was cut by {cut} of {surplus} tokens"
        cache.num_tokens = num_tokens

    def contents(self, block_id: BlockId, num_tokens: int) -> list[Tensor]:
        """The block's arrays, which hold just as many tokens as it was sealed with."""
        return self._sealed[block_id].tensors()

    def receive(self, block_id: BlockId, num_tokens: int) -> Place:
        """Room for the block's arrays."""
        self._sealed[block_id] = block = SealedBlock(num_tokens)
        return block.place(lambda headers: expect(_without_states(headers), self._expected(num_tokens)))

    def close(self, cache: ContiguousSequenceCache) -> None:
        """Drop the cache's arrays."""
        self._open.discard(cache)
        cache.layers, cache.num_tokens = [], 0

    def discard(self, block_ids: Iterable[BlockId]) -> None:
        """Drop sealed blocks; a live sequence's memory went with its cache."""
        for block_id in block_ids:
            self._sealed.pop(block_id, None)

    def clear(self) -> None:
        """Close every cache and drop every block."""
        for cache in list(self._open):
            self.close(cache)
        self._sealed.clear()
        self._drop_joined()

    def together(self, rows: Sequence[ContiguousSequenceCache]) -> list[list[int]]:
        """Which of the rows, by number, can share a forward: those whose states are there and of one shape."""
        groups: dict[Hashable, list[int]] = {}
        for number, row in enumerate(rows):
            groups.setdefault(state_shapes(row.leaves), []).append(number)
        return list(groups.values())

    def layer_caches(self, rows: Sequence[ContiguousSequenceCache], tokens: int) -> list[Any]:
        """One forward's view: mlx_lm's own caches where one row needs nothing else, else joined layer by layer."""
        self._drop_joined()
        if len(rows) == 1 and not self._serves_alone:
            return rows[0].layers
        self._joined = JoinedRows([row.layers for row in rows], self._join_attention)
        return self._joined.layers

    def commit(self, rows: Sequence[ContiguousSequenceCache], tokens: int) -> None:
        """Record the tokens that a forward appended, and give each row its own of what it left behind."""
        if self._joined is not None:
            self._joined.part()
            self._joined = None
        for row in rows:
            row.num_tokens += tokens

    def _drop_joined(self) -> None:
        if self._joined is not None:  # of a forward that failed
            self._joined.drop()
            self._joined = None

    def _rows(self, blocks: Sequence[SealedBlock], num_tokens: int, index: int, name: str) -> mx.array:
        return joined(blocks, f"layers.{index}.{name}", num_tokens, self._room(num_tokens))

    def _room(self, num_tokens: int) -> int:
        """For how many tokens a cache that is taken up has room, as mlx_lm's caches do: whole blocks, and for one more.

        Without it the first step would copy all that there is to make some.
        """
        return self._spec.blocks_for_tokens(num_tokens + 1) * self._spec.block_tokens

    def _expected(self, num_tokens: int) -> list[TensorHeader]:
        return [
            TensorHeader(f"layers.{i}.{name}", dtype_name(dtype), (layer.kv_heads, num_tokens, width))
            for i, layer in enumerate(self._spec.layers)
            if layer.kind in (LayerKind.FULL, LayerKind.LATENT)
            for name, dtype, width in row_shapes(layer, self._spec.precision)
        ]


def _can_trim(layer: Any, num_tokens: int) -> bool:
    if type(layer) is RotatingKVCache:
        return bool(layer.offset + num_tokens < layer.max_size)
    return type(layer) is KVCache


def _without_states(headers: Sequence[TensorHeader]) -> list[TensorHeader]:
    return [header for header in headers if ".state" not in header.name]
