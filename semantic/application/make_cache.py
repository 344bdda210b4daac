"""Puts a prefix cache together for a model: its identity, its index, and what the store already has of it."""

import hashlib
import json

import attrs

from semantic.application.block_transfer import BlockTransfer
from semantic.application.ports.model import LanguageModel, ModelProfile
from semantic.application.ports.telemetry import Telemetry
from semantic.application.prefix_cache import PrefixCache
from semantic.application.store_tier import StoreTier
from semantic.domain.entities import KVBlock
from semantic.domain.services import BlockPool, PrefixIndex
from semantic.domain.services.references import References
from semantic.domain.value_objects import CacheContext, KVPrecision, Reuse
from semantic.domain.value_objects.rest_precision import CODES

EXPECTED_BLOCKS = 32
"""Blocks that are made room for when an engine is opened on a store: a long context, of those that are there."""


def cache_context(profile: ModelProfile) -> CacheContext:
    """All that the model's keys and values depend on besides the tokens."""
    spec = profile.cache_spec
    layers = json.dumps([attrs.asdict(layer) for layer in spec.layers], sort_keys=True)
    is_chunked = profile.reuse is Reuse.AT_CHUNKS
    return CacheContext(
        model=profile.fingerprint,
        layers=hashlib.sha256(layers.encode()).hexdigest(),
        block_tokens=spec.block_tokens,
        kv_precision=json.dumps({**_fields(spec.precision), "at_rest": _at_rest(profile)}, sort_keys=True),
        compute_dtype=profile.compute_dtype,
        cache_layout=profile.cache_layout,
        numerics=profile.numerics,
        lane=f"chunks of {profile.prefill_step_size}" if is_chunked else "token",
        adapters=profile.adapters,
    )


def _at_rest(profile: ModelProfile) -> str:
    """Blocks whose codes another version made are not found: they would be read as other numbers."""
    exact = profile.kv_at_rest == "exact"
    return profile.kv_at_rest if exact else f"{profile.kv_at_rest}, codes {CODES}"


def _fields(precision: KVPrecision) -> dict[str, object]:
    """Bits of values are named only where they differ, so that blocks made before there were such keep their names."""
    fields = attrs.asdict(precision)
    if precision.value_bits is None:
        del fields["value_bits"]
    return fields


def make_prefix_cache(
    model: LanguageModel, pool: BlockPool, tier: StoreTier | None, telemetry: Telemetry, *, prefix_caching: bool
) -> PrefixCache:
    """The prefix cache of an engine. Without ``prefix_caching`` it never finds nor keeps anything."""
    profile = model.profile
    block_tokens, chunk_tokens = profile.cache_spec.block_tokens, profile.prefill_step_size
    reuse = profile.reuse if prefix_caching else Reuse.NEVER
    if reuse is Reuse.AT_CHUNKS and chunk_tokens % block_tokens:
        reuse = Reuse.NEVER  # no block ends where a chunk does
    index = PrefixIndex(block_tokens, reuse, chunk_tokens)
    context = cache_context(profile).digest
    references = References()
    if tier is not None:
        _fill(index, tier, context)
        model.memory.expect(min(len(index), EXPECTED_BLOCKS, pool.total_blocks))
        for agent in tier.store.agents():
            references.replace((agent.record.namespace, agent.record.name), agent.blocks)
    transfer = BlockTransfer(
        pool=pool,
        index=index,
        memory=model.memory,
        tier=tier,
        context=context,
        block_bytes=profile.cache_spec.bytes_per_block,
        telemetry=telemetry,
    )
    return PrefixCache(
        pool=pool,
        index=index,
        memory=model.memory,
        transfer=transfer,
        references=references,
        chunk_tokens=chunk_tokens,
    )


def _fill(index: PrefixIndex, tier: StoreTier, context: str) -> None:
    for block in tier.store.blocks(context):
        index.add(
            KVBlock(
                hash=block.hash,
                parent=block.parent,
                start=block.start,
                tokens=block.tokens,
                has_state=block.has_state,
                stored=True,
            )
        )
