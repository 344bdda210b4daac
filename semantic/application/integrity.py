"""Whether an engine's books balance: what pool, index, memory and store say of the same blocks.

Only the engine's thread opens them. Each finds something wrong as soon as it is, which callers notice much later, as
a slow answer or as memory that is gone.
"""

from collections.abc import Iterator

from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.domain.entities import KVBlock
from semantic.domain.errors import EngineIntegrityError
from semantic.domain.value_objects import block_hash

_MOST_NAMED = 5


def check_integrity(engine: BlockPoolBatchEngine) -> None:
    """Raise :class:`PoolIntegrityError`, :class:`EngineIntegrityError` or :class:`StoreIntegrityError`.

    Between two steps, at any time. What is on its way to the store or from it is in two books at once: the store is
    compared when nothing is. O(blocks), and a look at the store's folder.
    """
    engine.pool.check_integrity()
    is_quiet = _is_quiet(engine)
    problems = [*_blocks(engine), *_memory(engine), *(_store(engine) if is_quiet else ())]
    if problems:
        more = f" and {len(problems) - _MOST_NAMED} more" if len(problems) > _MOST_NAMED else ""
        raise EngineIntegrityError("; ".join(problems[:_MOST_NAMED]) + more)
    if is_quiet and engine.tier is not None:
        engine.tier.store.check_integrity()


def _is_quiet(engine: BlockPoolBatchEngine) -> bool:
    """Whether nothing is on its way to or from the store, and all that has ended was told."""
    if engine.tier is None:
        return True
    is_written = not engine.tier.stats().pending_jobs  # asked first: what ends is told before it stops to count
    engine.poll()
    return is_written and not engine.cache.transfer.is_busy


def _blocks(engine: BlockPoolBatchEngine) -> Iterator[str]:
    """Every indexed block is what its name says, and is somewhere."""
    index, transfer = engine.cache.index, engine.cache.transfer
    for block in index:
        if block.hash != block_hash(block.parent, block.tokens):
            yield f"{_named(block)} has other tokens than its name"
        if not 0 < block.num_tokens <= index.block_tokens:
            yield f"{_named(block)} has {block.num_tokens} tokens of at most {index.block_tokens}"
        if block.block_id is None:
            if not transfer.is_persisted(block):
                yield f"{_named(block)} is indexed and neither in memory nor in the store"
        elif block not in index.residents(block.block_id):
            yield f"{_named(block)} is not among those in memory {block.block_id}"


def _memory(engine: BlockPoolBatchEngine) -> Iterator[str]:
    """What is kept can be found, what can be found is kept, and what nobody uses is free."""
    pool, index, transfer = engine.pool, engine.cache.index, engine.cache.transfer
    evictable = set(pool.evictable)
    for block_id in evictable:
        if not index.residents(block_id):
            yield f"memory {block_id} is kept, and nothing can find it"
    for block in index:
        if block.block_id is not None and block.block_id not in evictable and not pool.holders(block.block_id):
            yield f"{_named(block)} is in memory {block.block_id}, which is free"
    if not engine.has_work and not transfer.is_busy and not engine.cache.has_pins and pool.num_in_use:
        yield f"{pool.num_in_use} blocks are held, and nothing is running, pinned, or on its way"
    if engine.model.memory.seals_in_place:
        most = (pool.num_in_use + pool.num_evictable) * engine.model.profile.cache_spec.bytes_per_block
        if engine.model.memory.nbytes > most:
            yield f"caches hold {engine.model.memory.nbytes:,} bytes, and blocks account for {most:,}"


def _store(engine: BlockPoolBatchEngine) -> Iterator[str]:
    """The index knows of the store's blocks, and of no others."""
    if engine.tier is None:
        return
    published = {block.hash for block in engine.tier.store.blocks(engine.context.digest)}
    believed = {block.hash for block in engine.cache.index if block.stored}
    for name in believed - published:
        yield f"block {name.hex()} is said to be in the store, and is not"
    for name in published - believed:
        yield f"block {name.hex()} is in the store, and nothing can find it"


def _named(block: KVBlock) -> str:
    return f"block {block.hash.hex()} at {block.start}"
