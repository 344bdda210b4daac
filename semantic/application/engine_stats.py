"""Counts of an engine, for people and programs to act on."""

from attrs import frozen

from semantic.application.store_tier import StoreTierStats


@frozen(kw_only=True)
class EngineStats:
    """Counts of the engine now, and since it was opened. Bytes: ``cache_bytes`` KV memory, ``weight_bytes`` model,
    ``block_bytes`` what a block of the pool takes.

    ``waiting_in_background`` of the ``waiting`` are of that priority; ``preempted`` of them had begun before.
    ``pool_free_blocks`` can be handed out now; of them ``pool_cached_blocks`` hold context that nobody uses at the
    moment. Of the ``prompt_tokens`` of admitted requests, ``cached_tokens_from_memory`` and
    ``cached_tokens_from_store`` were not computed. ``store`` is None without a store.
    """

    waiting: int
    waiting_in_background: int
    preempted: int
    running: int
    pool_total_blocks: int
    pool_free_blocks: int
    pool_cached_blocks: int
    pool_blocks_in_use: int
    block_bytes: int
    cache_bytes: int
    weight_bytes: int
    steps: int
    prefilled_tokens: int
    generated_tokens: int
    finished_requests: int
    preemptions: int
    prompt_tokens: int
    cached_tokens_from_memory: int
    cached_tokens_from_store: int
    evicted_blocks: int
    loaded_blocks: int
    lost_blocks: int
    store: StoreTierStats | None = None
