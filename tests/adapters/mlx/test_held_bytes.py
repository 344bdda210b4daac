"""What running and sealed contexts of models with windows and states really hold is what the books say.

Within two percent, in the pool, in memory and on the disk.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from mlx_lm.models.cache import RotatingKVCache
from tiny_models import ARCHITECTURES, DENSE, Architecture, build

import semantic
from semantic.adapters.clock import SystemClock
from semantic.adapters.telemetry import NullTelemetry
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.engine_options import EngineOptions
from semantic.application.open_engine import make_pool
from semantic.container import make_container
from semantic.domain.errors import RequestTooLargeError
from semantic.domain.value_objects import LayerKind, SamplingParams, Workspace

pytestmark = pytest.mark.mlx

BUDGET = 8_000_000
WINDOW = 64
WIDE = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64}
MODELS = {
    "windows and full attention": Architecture(
        "gemma3_text", ARCHITECTURES["gemma3"].arguments | WIDE | {"sliding_window": WINDOW}
    ),
    "windows alone": Architecture("llama", DENSE | WIDE),
    "recurrent and full attention": Architecture(
        "lfm2", ARCHITECTURES["lfm2"].arguments | {"hidden_size": 256, "block_dim": 256}
    ),
    "full attention": Architecture("llama", DENSE | WIDE),
}


def ids(tokens: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 128, tokens)]


def built(name: str) -> Any:
    made = build(MODELS[name])
    if name == "windows alone":  # as Mistral's first models have them
        made.make_cache = lambda: [RotatingKVCache(WINDOW) for _ in made.layers]
    return made


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return built(request.param)


def stepped(model: Any, budget: int = BUDGET) -> BlockPoolBatchEngine:
    """An engine without its thread, so that one may look at it between two steps; all of its budget is for caches."""
    factory = make_container(quiet=True).model_factory()
    options = EngineOptions(memory_bytes=budget, cache_layout="contiguous", prefix_caching=False)
    prepared = factory.prepare(factory.adopt(model, None), options)
    prepared = attrs.evolve(prepared, profile=attrs.evolve(prepared.profile, workspace=Workspace()))
    pool = make_pool(prepared.profile, options)
    return BlockPoolBatchEngine(
        model=prepared.build(pool.total_blocks),
        tokenizer=None,
        pool=pool,
        clock=SystemClock(),
        telemetry=NullTelemetry(),
        prefix_caching=False,
    )


def test_running_sequences_hold_what_is_accounted_for_them(model: Any) -> None:
    engine = stepped(model)
    for number, tokens in enumerate((760, 500, 250)):
        engine.submit(ids(tokens, seed=number), SamplingParams(max_tokens=7))
    while engine.stats().running < 3 or engine.stats().prefilled_tokens < 760 + 500 + 250 - 3:
        engine.step()
    engine.step()  # all three have decoded since their last chunk
    held, accounted = engine.model.memory.nbytes, engine.stats().tier_bytes.live
    engine.close()
    assert held == pytest.approx(accounted, rel=0.02)


def test_what_is_sealed_weighs_what_it_holds_in_memory_and_on_the_disk(model: Any, tmp_path: Path) -> None:
    with semantic.open((model, None), memory=8 * BUDGET, store=tmp_path, cache_layout="contiguous") as engine:
        for number in range(3):
            engine.generate(ids(600, seed=number), max_tokens=1)
        engine.flush()
        stats = engine.stats()
        files = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    in_memory = stats.tier_bytes.live + stats.tier_bytes.resident  # a block that was just saved may still be held
    assert stats.cache_bytes == pytest.approx(in_memory, rel=0.02)
    assert files == pytest.approx(stats.cache_bytes, rel=0.02)


def test_a_budget_runs_as_many_long_sequences_as_their_windows_leave_room_for() -> None:
    engine = stepped(built("windows and full attention"))
    spec = engine.model.profile.cache_spec
    assert {layer.kind for layer in spec.layers} == {LayerKind.FULL, LayerKind.SLIDING}
    tokens = 1280
    for number in range(12):
        engine.submit(ids(tokens - 7, seed=number), SamplingParams(max_tokens=8))
    while engine.stats().waiting == 12:
        engine.step()
    running = 0
    while engine.has_work:
        running = max(running, engine.stats().running)
        engine.step()
    engine.close()
    whole_blocks = BUDGET // (spec.blocks_for_tokens(tokens) * spec.bytes_per_block)
    assert running == BUDGET // spec.live_bytes_at(tokens) > whole_blocks


@pytest.mark.parametrize(("name", "fits"), [("windows alone", True), ("full attention", False)])
def test_a_request_is_too_large_by_what_it_would_hold_and_not_by_its_length(name: str, fits: bool) -> None:
    engine = stepped(built(name), budget=2_500_000)
    assert engine.pool.total_blocks == 2
    with nullcontext() if fits else pytest.raises(RequestTooLargeError):
        engine.check(ids(5 * 256), SamplingParams(max_tokens=1))
    engine.close()
