"""Counts of an engine, for people and programs to act on."""

from attrs import frozen

from semantic.application.store_tier import StoreTierStats
from semantic.domain.value_objects.percentiles import Percentiles


@frozen(kw_only=True)
class TierBytes:
    """Bytes of keys and values, each where it is: in use, at rest in memory, on disk, and on the way there."""

    live: int
    resident: int
    store: int
    pending_writes: int


@frozen(kw_only=True)
class HitRates:
    """Shares of the prompt tokens of admitted requests, by where they came from; they add up to 1."""

    memory: float
    store: float
    computed: float


@frozen(kw_only=True)
class EngineStats:
    """Counts of the engine now, and since it was opened. Bytes: ``cache_bytes`` KV memory, ``weight_bytes`` model,
    ``block_bytes`` what a block takes as it is computed with, ``live_bytes`` and ``resident_bytes`` what the pool has
    accounted for blocks in use, and for those that rest, which are lighter where they are quantised or partial.

    ``waiting_in_background`` of the ``waiting`` are of that priority; ``preempted`` of them had begun before.
    ``pool_free_blocks`` can be handed out now; of them ``pool_cached_blocks`` hold context that nobody uses at the
    moment. Of the ``prompt_tokens`` of admitted requests, ``cached_tokens_from_memory`` and
    ``cached_tokens_from_store`` were not computed. Of the ``drafted_tokens`` that speculation fed beside what had to be
    fed, ``accepted_tokens`` were right. ``store`` is None without a store.

    ``ttft_s`` (from submission to the first token, of the last 1,000 requests), ``token_gap_s`` (between tokens that
    are handed over, the last 10,000) and ``tokens_per_s`` (the last 5 s) are measured by the thread that hands tokens
    over; the batch engine alone has none.
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
    live_bytes: int
    resident_bytes: int
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
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    store: StoreTierStats | None = None
    ttft_s: Percentiles | None = None
    token_gap_s: Percentiles | None = None
    tokens_per_s: float = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether any request is running or waiting."""
        return self.running + self.waiting > 0

    @property
    def pool_bytes_free(self) -> int:
        """Bytes of blocks that hold nothing: what is neither live nor resident."""
        return max(0, self.pool_free_blocks * self.block_bytes - self.resident_bytes)

    @property
    def tier_bytes(self) -> TierBytes:
        """Bytes by tier."""
        return TierBytes(
            live=self.live_bytes,
            resident=self.resident_bytes,
            store=0 if self.store is None else self.store.store.bytes,
            pending_writes=0 if self.store is None else self.store.pending_bytes,
        )

    @property
    def hit_rates(self) -> HitRates | None:
        """Where prompts came from, since the engine was opened; None before the first was admitted."""
        if not self.prompt_tokens:
            return None
        memory = self.cached_tokens_from_memory / self.prompt_tokens
        store = self.cached_tokens_from_store / self.prompt_tokens
        return HitRates(memory=memory, store=store, computed=1 - memory - store)
