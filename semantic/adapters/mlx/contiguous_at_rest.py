"""mlx_lm's own caches for what runs, quantised blocks for what rests (:mod:`semantic.adapters.mlx.paged_at_rest`).

Layers that keep a row for each token are quantised; the state of others stays as it is.
"""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache

from semantic.adapters.mlx.contiguous_cache import ContiguousMemory, ContiguousSequenceCache
from semantic.adapters.mlx.page_arena import Array
from semantic.adapters.mlx.rows_at_rest import RowCodec, RowsAtRest
from semantic.adapters.mlx.sealed_block import SealedBlock
from semantic.application.ports.block_store import Place
from semantic.domain.identifiers import BlockId


class ContiguousMemoryAtRest(ContiguousMemory):
    """Open caches as they are, sealed blocks in few bits."""

    def with_codec(self, codec: RowCodec) -> "ContiguousMemoryAtRest":
        """Seal with ``codec`` from now on, and read what was sealed with it; called before anything is sealed."""
        self._quantised = RowsAtRest(self._spec, codec)
        return self

    def resume(self, cache: ContiguousSequenceCache, block_ids: Sequence[BlockId], num_tokens: int) -> None:
        """Build the layers from sealed blocks."""
        blocks = [self._sealed[block_id] for block_id in block_ids]
        for i, layer in enumerate(cache.leaves):
            if type(layer) is KVCache:
                keys, values = self._decoded(blocks, i, num_tokens)
                layer.keys, layer.values, layer.offset = keys, values, num_tokens
            else:
                blocks[-1].restore_state(i, layer)
        cache.num_tokens = num_tokens
        cache.evaluate()

    def sealed_bytes(self, start: int, num_tokens: int, *, with_state: bool) -> int:
        """Codes and scales for each token, and the states as they are."""
        states = self._spec.state_bytes_at(start + num_tokens) if with_state else 0
        return self._quantised.nbytes(num_tokens) + states

    def seal(self, cache: ContiguousSequenceCache, block_id: BlockId, start: int, num_tokens: int) -> None:
        """Quantise the tokens' rows, and copy states at the cache's end."""
        block = self._sealed[block_id] = SealedBlock(num_tokens)
        with_state = start + num_tokens == cache.num_tokens
        for i, layer in enumerate(cache.leaves):
            if type(layer) is KVCache:
                rows = (array[0, :, start : start + num_tokens] for array in (layer.keys, layer.values))
                self._quantised.put(block, i, *(np.array(array.astype(mx.float32)) for array in rows))
            else:
                block.fill_layer(i, layer, start, num_tokens, with_state=with_state)

    def receive(self, block_id: BlockId, num_tokens: int) -> Place:
        """Room for the block's arrays."""
        self._sealed[block_id] = block = SealedBlock(num_tokens)
        return block.place(lambda headers: self._quantised.check(headers, num_tokens))

    def _decoded(self, blocks: Sequence[SealedBlock], index: int, num_tokens: int) -> tuple[mx.array, mx.array]:
        layer, size = self._spec.layers[index], self._spec.block_tokens
        room = self._room(num_tokens)
        keys: Array = np.empty((layer.kv_heads, room, layer.key_head_dim), np.float32)
        values: Array = np.empty((layer.kv_heads, room, layer.value_head_dim), np.float32)
        rows = [slice(i * size, i * size + block.num_tokens) for i, block in enumerate(blocks)]
        self._quantised.get(
            (block, [(index, keys[:, part], values[:, part])]) for block, part in zip(blocks, rows, strict=True)
        )
        for array in (keys, values):
            array[:, num_tokens:] = 0  # of a block that is taken up in part, or never written
        dtype = getattr(mx, self._spec.precision.dtype)
        return mx.array(keys[None]).astype(dtype), mx.array(values[None]).astype(dtype)
