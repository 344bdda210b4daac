"""What quantised caches hold is what the spec, the pool, the memory and the store say they hold."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from tiny_models import DENSE, Architecture, build

import semantic
from semantic.adapters.mlx.cache_probe import derive_cache_spec
from semantic.adapters.mlx.contiguous_cache import ContiguousMemory
from semantic.adapters.mlx.quantised_layers import make_layers, quantised_spec
from semantic.application.ports.block_store import fill, pieces_of
from semantic.domain.identifiers import BlockId
from semantic.domain.services import BlockPool

pytestmark = pytest.mark.mlx

GROUP = 32


@pytest.fixture(scope="module")
def model() -> Any:
    return build(Architecture("llama", DENSE | {"head_dim": 64}))


@pytest.fixture(params=[8, 4])
def bits(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_keys_of_eight_and_values_of_four_bits_take_seven_a_value(model: Any, tmp_path: Path) -> None:
    spec = quantised_spec(model, derive_cache_spec(model), 8, 64, value_bits=4)
    assert spec.bytes_per_token * 8 / (2 * 2 * (64 + 64)) == 7.0
    memory = ContiguousMemory(lambda: make_layers(model, spec.precision), spec)
    row = feed(memory, model, 512)
    assert row.nbytes == 2 * spec.bytes_per_block
    memory.seal(row, BlockId(0), 0, 256)
    memory.close(row)
    assert memory.nbytes == memory.sealed_bytes(0, 256, with_state=False) == spec.bytes_per_block


def memory_of(model: Any, bits: int) -> ContiguousMemory:
    spec = quantised_spec(model, derive_cache_spec(model), bits, GROUP)
    return ContiguousMemory(lambda: make_layers(model, spec.precision), spec)


def feed(memory: ContiguousMemory, model: Any, tokens: int) -> Any:
    row = memory.open()
    mx.eval(model(mx.zeros((1, tokens), mx.uint32), cache=memory.layer_caches([row], tokens)))
    memory.commit([row], tokens)
    return row


def test_five_and_nine_bits_a_value_with_float32_scales_of_groups_of_64(model: Any) -> None:
    values = 2 * 2 * (64 + 64)  # layers, heads, dimensions
    for bits, expected in ((4, 5.0), (8, 9.0)):
        spec = quantised_spec(model, derive_cache_spec(model), bits, 64)
        assert spec.bytes_per_token * 8 / values == expected


def test_a_live_cache_and_a_sealed_block_hold_what_the_spec_says(model: Any, bits: int) -> None:
    memory = memory_of(model, bits)
    spec = quantised_spec(model, derive_cache_spec(model), bits, GROUP)
    row = feed(memory, model, 512)
    assert row.nbytes == 2 * spec.bytes_per_block == spec.bytes_for_tokens(512)
    memory.seal(row, BlockId(0), 0, 256)
    memory.seal(row, BlockId(1), 256, 100)
    memory.close(row)
    expected = [memory.sealed_bytes(0, 256, with_state=False), memory.sealed_bytes(256, 100, with_state=False)]
    assert expected == [spec.bytes_per_block, 100 * spec.bytes_per_token]
    assert memory.nbytes == sum(expected)


def test_a_block_goes_through_the_stores_tensors_bit_by_bit(model: Any, bits: int) -> None:
    memory = memory_of(model, bits)
    row = feed(memory, model, 300)
    memory.seal(row, BlockId(0), 0, 256)
    saved = memory.contents(BlockId(0), 256)
    assert [tensor.header.name for tensor in saved][:6] == [
        f"layers.0.{side}.{part}" for side in ("keys", "values") for part in ("codes", "scales", "biases")
    ]
    place = memory.receive(BlockId(1), 256)
    fill(place([tensor.header for tensor in saved]), b"".join(pieces_of(saved)))
    taken_up = memory.open()
    memory.resume(taken_up, [BlockId(1)], 200)
    for mine, theirs in zip(taken_up.layers, row.layers, strict=True):
        for part, original in zip((*mine.keys, *mine.values), (*theirs.keys, *theirs.values), strict=True):
            assert mx.array_equal(part[..., :200, :], original[..., :200, :])
            assert part.shape == original[..., :256, :].shape  # with room to go on, as mlx_lm's caches have


def test_a_budget_holds_as_many_more_blocks_as_its_bits_are_fewer(model: Any, bits: int) -> None:
    exact = derive_cache_spec(model)
    spec = quantised_spec(model, exact, bits, 64)
    budget = 400 * exact.bytes_per_block
    many = BlockPool.from_budget(budget, spec).total_blocks / BlockPool.from_budget(budget, exact).total_blocks
    assert many == pytest.approx(32 / (bits + 1), rel=0.02)


def test_files_are_as_large_as_the_sealed_blocks_within_two_percent(bits: int, tmp_path: Path) -> None:
    model = build(Architecture("llama", DENSE | {"head_dim": 128}))
    with semantic.open((model, None), memory="64MB", store=tmp_path, kv_bits=bits, kv_group_size=GROUP) as engine:
        engine.generate([1] * 512, max_tokens=1)
        engine.flush()
        spec = engine.profile.cache_spec
        files = [file.stat().st_size for file in tmp_path.rglob("*.safetensors")]
    assert len(files) == 2
    assert sum(files) == pytest.approx(512 * spec.bytes_per_token, rel=0.02)


def test_stock_caches_are_the_same_size(model: Any, bits: int) -> None:
    stock = [cache.to_quantized(GROUP, bits) for cache in _fed(model, 256)]
    spec = quantised_spec(model, derive_cache_spec(model), bits, GROUP)
    assert sum(cache.nbytes for cache in stock) == spec.bytes_per_block


def _fed(model: Any, tokens: int) -> list[Any]:
    caches = make_prompt_cache(model)
    mx.eval(model(mx.zeros((1, tokens), mx.uint32), cache=caches))
    return caches
