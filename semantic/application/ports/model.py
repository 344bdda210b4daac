"""The model port: prefill a chunk, decode a step, for sequences whose caches it hands out."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from attrs import frozen

from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import ModelCacheSpec, SamplingParams


@frozen
class ModelProfile:
    """What the engine must know of a loaded model.

    ``context_length``: tokens, or None where the model sets no limit. ``batching``: ``"ragged"`` when rows of
    different lengths share one forward, ``"one by one"`` otherwise. ``cache_layout``: ``"paged"`` or ``"contiguous"``.
    """

    name: str
    vocab_size: int
    context_length: int | None
    cache_spec: ModelCacheSpec
    compute_dtype: str
    device: str
    batching: str
    cache_layout: str
    prefill_step_size: int
    weight_bytes: int = 0
    fingerprint: str = ""


class SequenceCache(Protocol):
    """One sequence's keys and values over all layers. Held by one sequence; never shared between two."""

    @property
    def num_tokens(self) -> int:
        """Tokens whose keys and values are in the cache."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory this cache really holds now, shared blocks counted once in full."""


@frozen
class DecodeRow:
    """One row of a decode step: feed ``token_id`` to ``cache`` and choose the next token.

    ``index`` counts the tokens this request has drawn before: with ``seed`` it fixes the randomness of the draw.
    """

    cache: SequenceCache
    token_id: int
    sampling: SamplingParams
    seed: int
    index: int


class CacheMemory(Protocol):
    """The physical memory behind a block pool: paged (blocks *are* the memory) or contiguous (blocks are accounting).

    One contract suite covers both. Not thread-safe: one thread owns it.
    """

    @property
    def layout(self) -> str:
        """``"paged"`` or ``"contiguous"``."""

    @property
    def nbytes(self) -> int:
        """Bytes held for all open caches and undiscarded blocks together."""

    def open(self) -> SequenceCache:
        """A new, empty cache with no blocks attached."""

    def attach(self, cache: SequenceCache, block_ids: Sequence[BlockId]) -> None:
        """Append blocks to the cache's table, so that it can hold ``block_tokens`` more tokens for each.

        An id never attached, or discarded since, gets fresh memory; one that is attached elsewhere is shared.
        """

    def close(self, cache: SequenceCache) -> None:
        """Forget the cache. Closing twice is a no-op. Memory of its blocks stays until :meth:`discard`."""

    def discard(self, block_ids: Iterable[BlockId]) -> None:
        """Free the memory of blocks that the pool says nobody holds. Unknown ids are ignored."""


class LanguageModel(Protocol):
    """A loaded model. Not thread-safe: after :meth:`bind` one thread owns it until :meth:`release`."""

    @property
    def profile(self) -> ModelProfile:
        """The facts of this model."""

    @property
    def memory(self) -> CacheMemory:
        """Where this model's caches live."""

    def prefill(self, cache: SequenceCache, token_ids: Sequence[int]) -> None:
        """Append the keys and values of ``token_ids`` to ``cache`` and evaluate them. Computes no logits.

        The cache must have room attached. On an error the cache must be closed: its content is undefined.
        """

    def decode(self, rows: Sequence[DecodeRow]) -> list[int]:
        """Append each row's token to its cache and return each row's next token id, in row order.

        Rows may have any lengths. What a row gets does not depend on the other rows' content, seeds or lengths; how
        many there are may move the last bits of its logits, as far as the exactness lane allows (ADR 0004).
        """

    def release(self) -> None:
        """Undo what the adapter bound in the model's modules and drop all caches. Releasing twice is a no-op."""
