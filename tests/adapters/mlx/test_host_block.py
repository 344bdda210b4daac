"""A block's arrays by name: sealed one by one, or views of what came from the store."""

from typing import Any

import numpy as np
import pytest

from semantic.adapters.mlx.host_block import HostBlock
from semantic.application.ports.block_store import TensorHeader, fill
from semantic.domain.errors import BlockDamagedError

Arrays = dict[str, np.ndarray[Any, Any]]

EQUAL = {f"layers.{i}.{name}": (2, 3) for i in range(4) for name in ("keys", "values")}
UNEQUAL = {"layers.0.keys": (2, 3), "layers.1.keys": (2, 3), "layers.9.state": (5,), "layers.2.keys": (2, 3)}


def arrays_of(shapes: dict[str, tuple[int, ...]]) -> Arrays:
    random = np.random.default_rng(0)
    return {name: random.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}


def sealed(arrays: Arrays) -> HostBlock:
    block = HostBlock(3)
    for name, array in arrays.items():
        block.put(name, "U8", array)
    return block


def from_store(arrays: Arrays) -> HostBlock:
    block = HostBlock(3)
    place = block.place(lambda headers: None)
    headers = [TensorHeader(name, "U8", array.shape) for name, array in arrays.items()]
    fill(place(headers), b"".join(array.tobytes() for array in arrays.values()))
    return block


@pytest.mark.parametrize("make", [sealed, from_store])
@pytest.mark.parametrize("shapes", [EQUAL, UNEQUAL], ids=["equally far apart", "at unequal distances"])
@pytest.mark.parametrize("layers", [range(1), range(2), range(3), range(1, 3)])
def test_layers_are_given_together(make: Any, shapes: dict[str, tuple[int, ...]], layers: range) -> None:
    arrays = arrays_of(shapes)
    together = make(arrays).of_layers(layers)
    expected = np.stack([arrays[f"layers.{i}.keys"] for i in layers])
    np.testing.assert_array_equal(together["keys"], expected)


def test_a_block_from_the_store_gives_views() -> None:
    block = from_store(arrays_of(EQUAL))
    first, second = block.of_layers(range(3)), block.of_layers(range(1, 4))
    assert np.shares_memory(first["keys"][1], second["keys"][0])


@pytest.mark.parametrize("name", ["keys", "layers.0", "layers.x.keys", "layers.1234567.keys", "state.0.keys"])
def test_names_that_no_layer_has_are_damage(name: str) -> None:
    place = HostBlock(3).place(lambda headers: None)
    with pytest.raises(BlockDamagedError, match="types or names that are not kept"):
        place([TensorHeader(name, "U8", (2, 3))])
