"""Engines on a store in memory, for tests: what an earlier one left, and what is where. Blocks hold 16 tokens."""

from typing import Any

import pytest
from driving import DrivenWithStore, driven_with_store

from semantic.adapters.fakes import FakeModel
from semantic.adapters.fakes.store import MemoryStore
from semantic.domain.entities import KVBlock
from semantic.domain.value_objects import Reuse

KINDS = {
    "pages anywhere": {"layout": "paged", "reuse": Reuse.ANYWHERE},
    "copies anywhere": {"layout": "contiguous", "reuse": Reuse.ANYWHERE},
    "copies at states": {"layout": "contiguous", "reuse": Reuse.AT_STATES},
    "pages at chunks": {"layout": "paged", "reuse": Reuse.AT_CHUNKS},
    "copies at chunks": {"layout": "contiguous", "reuse": Reuse.AT_CHUNKS},
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
BLOCK_BYTES = 64
"""What a whole block of the fake model's takes in the store."""


def started(store: MemoryStore, kind: str = "pages anywhere", **parts: Any) -> DrivenWithStore:
    """A new engine with an empty pool, as after a start of the process."""
    return driven_with_store(store, FakeModel(**KINDS[kind]), **parts)


def prompt(tokens: int, seed: int = 0) -> list[int]:
    """As many tokens, of which no two neighbouring blocks are alike."""
    return [1 + (7 * number + number // 16 + seed) % 250 for number in range(tokens)]


def stored(some: DrivenWithStore) -> list[KVBlock]:
    """The blocks that the engine believes to be in the store, by where they start."""
    found = [block for block in some.engine.cache.index if block.stored]
    return sorted(found, key=lambda block: (block.start, block.num_tokens))


def on_disk(some: DrivenWithStore) -> list[tuple[int, int]]:
    """Where the blocks in the store start and end."""
    blocks = some.store.blocks(some.engine.context.digest)
    return sorted((block.start, block.start + len(block.tokens) // 4) for block in blocks)


def filled_store(kind: str = "pages anywhere", tokens: int = 33, max_tokens: int = 4) -> MemoryStore:
    """A store in which an earlier engine has left a prompt and its completion."""
    store = MemoryStore()
    some = started(store, kind)
    some.generate(prompt(tokens), max_tokens=max_tokens)
    some.engine.close()
    store.reopen()
    return store
