"""A snapshot of an engine with round numbers."""

import os
from typing import Any

from attrs import evolve

from semantic.application.engine_stats import EngineStats
from semantic.application.ports.block_store import StoreStats
from semantic.application.ports.live_board import EngineSnapshot
from semantic.application.store_tier import StoreTierStats
from semantic.domain.value_objects.percentiles import Percentiles

STATS = EngineStats(
    waiting=5,
    waiting_in_background=2,
    preempted=1,
    running=3,
    pool_total_blocks=100,
    pool_free_blocks=60,
    pool_cached_blocks=50,
    pool_blocks_in_use=40,
    block_bytes=1_000_000,
    live_bytes=40_000_000,
    resident_bytes=50_000_000,
    cache_bytes=90_000_000,
    weight_bytes=500_000_000,
    steps=1234,
    prefilled_tokens=9000,
    generated_tokens=5000,
    finished_requests=1200,
    preemptions=7,
    prompt_tokens=10_000,
    cached_tokens_from_memory=6000,
    cached_tokens_from_store=1000,
    evicted_blocks=12,
    loaded_blocks=4,
    lost_blocks=0,
    store=StoreTierStats(
        store=StoreStats(blocks=340, bytes=1_200_000_000, agents=8, budget_bytes=None),
        pending_jobs=3,
        pending_bytes=2_100_000,
        behind_s=0.4,
        failed_writes=0,
    ),
    ttft_s=Percentiles(count=1000, p50=0.31, p90=0.5, p99=1.2),
    token_gap_s=Percentiles(count=10_000, p50=0.068, p90=0.08, p99=0.14),
    tokens_per_s=71.23,
)


def snapshot(engine: str = "1-1", *, pid: int | None = None, **counts: Any) -> EngineSnapshot:
    """One of this process's engines, unless ``pid`` says otherwise; ``counts`` replace fields of its statistics."""
    return EngineSnapshot(
        engine=engine,
        pid=os.getpid() if pid is None else pid,
        model="SmolLM2-135M",
        opened_at="2026-11-26T12:00:00+00:00",
        taken_at="2026-11-26T12:12:30.500+00:00",
        stats=evolve(STATS, **counts),
    )
