"""Layers of a block, quantised and back: any of them together, and those that can't be quantised beside them."""

import numpy as np
import pytest

from semantic.adapters.mlx.host_block import HostBlock
from semantic.adapters.mlx.rows_at_rest import LayerRows, RowsAtRest
from semantic.adapters.quantisation.kv_codec import KVCodec
from semantic.application.ports.block_store import fill, pieces_of
from semantic.domain.value_objects import LayerSpec, ModelCacheSpec, RestPrecision

TOKENS = 20
TOO_LARGE = np.float32(20_000)


def rows_of(spec: ModelCacheSpec, seed: int | None = None) -> list[LayerRows]:
    """Rows of every layer: random ones, or room for them."""
    random = np.random.default_rng(seed)
    made = []
    for i, layer in enumerate(spec.layers):
        shapes = [(layer.kv_heads, TOKENS, dim) for dim in (layer.key_head_dim, layer.value_head_dim)]
        keys, values = (
            np.full(shape, np.nan, np.float32) if seed is None else random.standard_normal(shape, np.float32)
            for shape in shapes
        )
        made.append((i, keys, values))
    return made


def through_the_store(rows: RowsAtRest, block: HostBlock) -> HostBlock:
    tensors, received = block.tensors(), HostBlock(TOKENS)
    place = received.place(lambda headers: rows.check(headers, TOKENS))
    fill(place([tensor.header for tensor in tensors]), b"".join(pieces_of(tensors)))
    return received


@pytest.mark.parametrize("is_stored", [False, True], ids=["sealed", "from the store"])
@pytest.mark.parametrize("together", [1, 2, 5])
def test_layers_are_the_same_however_many_are_read_together(together: int, *, is_stored: bool) -> None:
    wide, narrow = LayerSpec.full(2, 64, 64), LayerSpec.full(1, 32, 64)
    spec = ModelCacheSpec(layers=(wide, wide, narrow, wide, wide))
    rows = RowsAtRest(spec, KVCodec(RestPrecision.of(4)))
    block, written = HostBlock(TOKENS), rows_of(spec, seed=0)
    written[1][1][0, 3, 5] = TOO_LARGE  # this layer stays as it is
    for layer in written:
        rows.put(block, *layer)
    if is_stored:
        block = through_the_store(rows, block)
    alone, read = rows_of(spec), rows_of(spec)
    rows.get((block, [layer]) for layer in alone)
    rows.get((block, read[i : i + together]) for i in range(0, len(read), together))
    for (_, *here), (_, *there), (index, *original) in zip(read, alone, written, strict=True):
        for ours, expected, exact in zip(here, there, original, strict=True):
            np.testing.assert_array_equal(ours, expected)
            assert np.abs(ours - exact).mean() <= (0 if index == 1 else 0.2)
