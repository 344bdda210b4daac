"""The model port: prefill a chunk, decode a step, for sequences whose caches it hands out."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from attrs import field, frozen

from semantic.application.ports.block_store import Place, Tensor
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import ModelCacheSpec, Reuse, SamplingParams, TokenLogprobs, Workspace


@frozen
class ModelProfile:
    """What the engine must know of a loaded model.

    ``context_length``: tokens, or None where the model sets no limit. ``batching``: ``"ragged"`` when rows of
    different lengths share one forward and attend apart, ``"padded"`` when they share the attention as well,
    ``"one by one"`` otherwise. ``cache_layout``: ``"paged"`` or ``"contiguous"``.
    ``reuse``: where a cached context may be taken up again. ``numerics``: operations and versions that the bits of
    keys and values depend on. ``fingerprint``: of weights, configuration and tokenizer.
    ``adapters``: those of the LoRA adapters on top of them, in order. ``kv_at_rest``: how keys and values are stored
    in blocks that nobody computes on. ``workspace``: what a step takes besides. ``lane_reason`` says to people why the
    model is run this way.
    ``verifies_drafts``: ``"together"`` where rows with drafts share a forward with the others, ``"apart"`` where each
    takes one of its own, ``"never"`` where caches can't be cut back or operations have to be mlx_lm's.
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
    reuse: Reuse = Reuse.ANYWHERE
    numerics: str = ""
    fingerprint: str = ""
    adapters: tuple[str, ...] = ()
    kv_at_rest: str = "exact"
    lane_reason: str = ""
    workspace: Workspace = field(factory=Workspace)
    verifies_drafts: str = "never"

    @property
    def identity(self) -> str:
        """What agents are bound to: the model's fingerprint, and those of its adapters behind plus signs."""
        return "+".join((self.fingerprint, *self.adapters))


class SequenceCache(Protocol):
    """One sequence's keys and values over all layers. Held by one sequence; never shared between two."""

    @property
    def num_tokens(self) -> int:
        """Tokens whose keys and values are in the cache."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory this cache really holds now, shared blocks counted once in full."""


@frozen
class Drawn:
    """One token that was chosen, with log-probabilities where the row's ``sampling`` asks for them."""

    token_id: int
    logprobs: TokenLogprobs | None = None


@frozen
class DecodeRow:
    """One row of a decode step: feed ``token_id`` to ``cache`` and choose the next token.

    ``index`` counts the tokens this request has drawn before: with ``seed`` it fixes the randomness of the draw.
    ``history``: all tokens up to ``token_id``, which is its last, where ``sampling.changes_logits``; else empty.
    ``draft``: tokens guessed to follow ``token_id``. They are verified in the same forward, so that as many tokens are
    drawn as were guessed right, and one more. The cache needs room for them all.
    """

    cache: SequenceCache
    token_id: int
    sampling: SamplingParams
    seed: int
    index: int
    history: Sequence[int] = ()
    draft: tuple[int, ...] = ()


class CacheMemory(Protocol):
    """The physical memory behind a block pool: paged (blocks *are* the memory) or contiguous (blocks are accounting).

    A block is *filled* once it holds what some tokens left behind: with pages that happens as a forward writes them,
    otherwise by :meth:`seal`. What is filled never changes; rows behind it may still be written by one sequence.

    One contract suite covers both. Not thread-safe: one thread owns it; only what :meth:`contents` and
    :meth:`receive` return may be used elsewhere.
    """

    @property
    def layout(self) -> str:
        """``"paged"`` or ``"contiguous"``."""

    @property
    def seals_in_place(self) -> bool:
        """Whether a sequence's own blocks are filled as it goes; otherwise they are sealed into other ones."""

    @property
    def nbytes(self) -> int:
        """Bytes held for all open caches and undiscarded blocks together."""

    def expect(self, num_blocks: int) -> None:
        """Get ready to receive so many blocks; nothing depends on it but time."""

    def open(self) -> SequenceCache:
        """A new, empty cache with no blocks attached."""

    def attach(self, cache: SequenceCache, block_ids: Sequence[BlockId]) -> None:
        """Append blocks to the cache's table, so that it can hold ``block_tokens`` more tokens for each.

        An id never attached, or discarded since, gets fresh memory; one that is attached elsewhere is shared.
        """

    def resume(self, cache: SequenceCache, block_ids: Sequence[BlockId], num_tokens: int) -> None:
        """Let an empty cache begin with the first ``num_tokens`` tokens that filled blocks hold.

        Where blocks are sealed in place they are attached too; otherwise their contents are copied, and the cache's own
        blocks are attached before.
        """

    def copy(self, source: BlockId, target: BlockId, num_tokens: int) -> None:
        """Fill the fresh block ``target`` with the first ``num_tokens`` tokens of ``source``."""

    def live_bytes(self, num_tokens: int) -> int:
        """Bytes that an open cache takes once it holds so many tokens, shared blocks counted in full."""

    def sealed_bytes(self, start: int, num_tokens: int, *, with_state: bool) -> int:
        """Bytes that a block with these tokens takes once it is sealed, or received."""

    def seal(self, cache: SequenceCache, block_id: BlockId, start: int, num_tokens: int) -> None:
        """Fill a block with the cache's ``num_tokens`` tokens from position ``start`` on.

        Sealed in place, there is nothing to do. A block that ends where the cache ends also gets the state of the
        layers that can't be cut back.
        """

    def trim(self, cache: SequenceCache, num_tokens: int) -> None:
        """Cut the cache back to its first ``num_tokens`` tokens. No block was sealed with any of those behind them."""

    def contents(self, block_id: BlockId, num_tokens: int) -> Sequence[Tensor]:
        """The arrays of a filled block's first ``num_tokens`` tokens, as views that stay valid until it is discarded.

        Another thread may read them.
        """

    def receive(self, block_id: BlockId, num_tokens: int) -> Place:
        """Where the arrays of ``num_tokens`` tokens shall go that fill this block; another thread may write them."""

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

    def decode(self, rows: Sequence[DecodeRow]) -> list[tuple[Drawn, ...]]:
        """Append each row's token to its cache and return what each row draws, in row order.

        A row's cache holds as many tokens more as were drawn for it: at least one. Each is chosen as it would be
        without a draft; drawing ends with the first that differs from the draft, and what was guessed behind it is not
        in the cache. A draft that can't be verified is ignored: a window may have passed its size. Rows may have any
        lengths. What a row gets does not depend on the other rows' content, seeds, lengths or drafts; how many there
        are may move the last bits of its logits, as far as the exactness lane allows (ADR 0004).
        """

    def release(self) -> None:
        """Undo what the adapter bound in the model's modules and drop all caches. Releasing twice is a no-op."""
