"""A model without tensors: the next token is a hash of the tokens so far, and the cache really holds them.

It notices what a real model would get wrong silently: writing past the attached blocks, using a closed cache, two
sequences in one block.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from semantic.adapters.fakes.tokenizer import VOCAB_SIZE
from semantic.application.ports.model import DecodeRow, ModelProfile
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import ModelCacheSpec

_LETTERS = [byte + 1 for byte in b" abcdefghijklmnopqrstuvwxyz"]


def fake_next_token(token_ids: Sequence[int]) -> int:
    """The greedy next token of :class:`FakeModel`: a letter or a space, decided by every token before it."""
    digest = hashlib.sha256(struct.pack(f"<{len(token_ids)}q", *token_ids)).digest()
    return _LETTERS[digest[0] % len(_LETTERS)]


def _sampled_token(token_ids: Sequence[int], seed: int, index: int) -> int:
    return fake_next_token([*token_ids, seed % 2**62, index])


class FakeCache:
    """The token ids of one sequence, kept in the blocks attached to it."""

    def __init__(self, memory: "FakeMemory") -> None:
        self._memory = memory
        self.block_ids: list[BlockId] = []
        self.num_tokens = 0
        self.is_open = True

    @property
    def nbytes(self) -> int:
        """Bytes of the attached blocks."""
        return len(self.block_ids) * self._memory.spec.bytes_per_block

    @property
    def token_ids(self) -> list[int]:
        """What was written, read back from the blocks."""
        held = [token for block_id in self.block_ids for token in self._memory.blocks[block_id]]
        return held[: self.num_tokens]

    def append(self, token_ids: Sequence[int]) -> None:
        """Write tokens behind those that are there."""
        assert self.is_open, "a closed cache was written to"
        for token in token_ids:
            index = self.num_tokens // self._memory.spec.block_tokens
            assert index < len(self.block_ids), "a token was written past the attached blocks"
            block = self._memory.blocks[self.block_ids[index]]
            assert len(block) == self.num_tokens % self._memory.spec.block_tokens, "two writers in one block"
            block.append(token)
            self.num_tokens += 1


class FakeMemory:
    """Blocks of token ids, by block id."""

    def __init__(self, spec: ModelCacheSpec, layout: str = "paged") -> None:
        self.spec, self.layout = spec, layout
        self.blocks: dict[BlockId, list[int]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks that were not discarded."""
        return len(self.blocks) * self.spec.bytes_per_block

    def open(self) -> FakeCache:
        """A new, empty cache."""
        return FakeCache(self)

    def attach(self, cache: FakeCache, block_ids: Sequence[BlockId]) -> None:
        """Append blocks to the cache's table."""
        for block_id in block_ids:
            self.blocks.setdefault(block_id, [])
            cache.block_ids.append(block_id)

    def close(self, cache: FakeCache) -> None:
        """Forget the cache; its blocks stay."""
        cache.is_open, cache.block_ids, cache.num_tokens = False, [], 0

    def discard(self, block_ids: Iterable[BlockId]) -> None:
        """Drop blocks."""
        for block_id in block_ids:
            self.blocks.pop(block_id, None)


class FakeModel:
    """Fulfils the model port. ``choose`` replaces the next-token rule; ``fail_on`` makes a token raise when fed."""

    def __init__(
        self,
        *,
        choose: Callable[[Sequence[int]], int] = fake_next_token,
        fail_on: int | None = None,
        context_length: int | None = 4096,
        prefill_step_size: int = 16,
        block_tokens: int = 16,
    ) -> None:
        spec = ModelCacheSpec.uniform(num_layers=2, kv_heads=2, head_dim=8, block_tokens=block_tokens, group_size=8)
        self.profile = ModelProfile(
            name="fake",
            vocab_size=VOCAB_SIZE,
            context_length=context_length,
            cache_spec=spec,
            compute_dtype="float16",
            device="none",
            batching="ragged",
            cache_layout="paged",
            prefill_step_size=prefill_step_size,
        )
        self.memory: Any = FakeMemory(spec)
        self.forwards: list[str] = []
        self.is_released = False
        self._choose, self._fail_on = choose, fail_on

    def with_prefill_step_size(self, tokens: int) -> "FakeModel":
        """The same model with another chunk size."""
        self.profile = attrs.evolve(self.profile, prefill_step_size=tokens)
        return self

    def prefill(self, cache: Any, token_ids: Sequence[int]) -> None:
        """Write a chunk."""
        self.forwards.append(f"prefill {len(token_ids)}")
        self._feed(token_ids)
        cache.append(token_ids)

    def decode(self, rows: Sequence[DecodeRow]) -> list[int]:
        """Write each row's token and choose its next one."""
        self.forwards.append(f"decode {len(rows)}")
        self._feed([row.token_id for row in rows])
        return [self._next(row) for row in rows]

    def release(self) -> None:
        """Drop all blocks."""
        self.is_released = True
        self.memory.blocks.clear()

    def _feed(self, token_ids: Sequence[int]) -> None:
        if self._fail_on is not None and self._fail_on in token_ids:
            raise RuntimeError(f"the fake model was told to fail on token {self._fail_on}")

    def _next(self, row: DecodeRow) -> int:
        cache = row.cache
        assert isinstance(cache, FakeCache)
        cache.append([row.token_id])
        if row.sampling.is_greedy:
            return self._choose(cache.token_ids)
        return _sampled_token(cache.token_ids, row.seed, row.index)
