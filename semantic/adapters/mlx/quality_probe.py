"""The quality probe on MLX: its contexts go through the very caches, blocks and codecs that the engine's go through.

At rest, one context is computed; its blocks are sealed by the memory and taken up again by another cache, once for each
codec. In compute, the memory is the one that an engine with ``kv_bits`` has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import mlx.core as mx
from attrs import frozen

from semantic.adapters.mlx.factory import PreparedMLXModel
from semantic.adapters.mlx.model import MLXLanguageModel
from semantic.adapters.mlx.published_codec import PublishedCodec
from semantic.adapters.mlx.rows_at_rest import RowCodec
from semantic.adapters.quantisation.choose import codec_for
from semantic.application.engine_options import EngineOptions
from semantic.application.ports.model_factory import ModelFactory
from semantic.application.ports.model_source import LoadedModel
from semantic.application.ports.quality import Agreement, KVMode
from semantic.application.ports.tokenizer import Tokenizer
from semantic.domain.errors import SemanticError
from semantic.domain.identifiers import BlockId
from semantic.domain.value_objects import ModelCacheSpec

_AT_REST = {KVMode.AT_REST_8: "8", KVMode.AT_REST_8_4: "8/4", KVMode.AT_REST_4: "4"}
_IN_COMPUTE = {KVMode.IN_COMPUTE_8: "8", KVMode.IN_COMPUTE_8_4: "8/4", KVMode.IN_COMPUTE_4: "4"}

_ANY_AT_REST = _AT_REST[KVMode.AT_REST_4]
"""What a memory of blocks at rest is made with before it is given the codecs in turn."""

_BUDGET = 1 << 30
"""Of no consequence: the probe makes the blocks that it needs, without a pool."""


@frozen
class _Standing:
    """A cache that stands at the end of a context kept in one mode."""

    mode: KVMode
    model: MLXLanguageModel
    cache: Any
    bytes_per_token: float


class MLXQualityProbe:
    """Runs on the thread that made it. ``load`` gives the model; a memory is made for each context and given back."""

    def __init__(
        self,
        factory: ModelFactory,
        load: Callable[[], LoadedModel],
        make_tokenizer: Callable[[Any], Tokenizer],
        kv_group_size: int,
    ) -> None:
        self._factory, self._loaded = factory, load()
        self._tokenizer = make_tokenizer(self._loaded.tokenizer)
        self._group_size = kv_group_size
        self._prepared: dict[tuple[str, str], PreparedMLXModel] = {}

    def encode(self, text: str) -> list[int]:
        """As the engine encodes what continues a context."""
        return self._tokenizer.encode(text, continues=True)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text."""
        return self._tokenizer.decode(token_ids)

    def refusal(self, mode: KVMode) -> str | None:
        """What opening an engine so would say."""
        try:
            if mode in _IN_COMPUTE:
                self._prepare("kv_bits", _IN_COMPUTE[mode])
            elif mode is not KVMode.EXACT:
                self._codec(mode, self._prepare("kv_at_rest", _ANY_AT_REST).profile.cache_spec)
        except SemanticError as error:
            return str(error)
        return None

    def agreements(
        self, context: Sequence[int], text: Sequence[int], modes: Sequence[KVMode]
    ) -> Mapping[KVMode, Agreement]:
        """One forward over the text in each mode."""
        exact: mx.array | None = None
        found: dict[KVMode, Agreement] = {}
        for standing in self._standing(context, modes, len(text)):
            logprobs = _logprobs(standing.model.logits(standing.cache, text[:-1]))
            exact = logprobs if exact is None else exact  # the exact one stands first
            found[standing.mode] = _agreement(exact, logprobs, text[1:], standing.bytes_per_token)
        return {mode: found[mode] for mode in modes}

    def answers(
        self, context: Sequence[int], question: Sequence[int], modes: Sequence[KVMode], *, max_tokens: int
    ) -> Mapping[KVMode, tuple[int, ...]]:
        """The question in one forward, then one for each token, greedily."""
        found: dict[KVMode, tuple[int, ...]] = {}
        for standing in self._standing(context, modes, len(question) + max_tokens):
            drawn, fed = [], question
            for _ in range(max_tokens):
                best: Any = mx.argmax(standing.model.logits(standing.cache, fed)[-1]).item()
                fed = [int(best)]
                drawn += fed
            found[standing.mode] = tuple(drawn)
        return {mode: found[mode] for mode in modes}

    def close(self) -> None:
        """Nothing stays bound between two questions."""
        self._prepared.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- contexts --------------------------------------------------------------------------------

    def _standing(self, context: Sequence[int], modes: Sequence[KVMode], room: int) -> Iterator[_Standing]:
        """A cache behind the context for each mode, the exact one first, whether it was asked for or not."""
        yield from self._rested(context, [mode for mode in modes if mode not in _IN_COMPUTE], room)
        for mode in (mode for mode in modes if mode in _IN_COMPUTE):
            with self._built(self._prepare("kv_bits", _IN_COMPUTE[mode]), len(context) + room) as (model, blocks):
                cache = _computed(model, blocks, context)
                sealed = _seal(model, cache, blocks, len(context))
                yield _Standing(mode, model, cache, _bytes_of(model, sealed) / len(context))

    def _rested(self, context: Sequence[int], modes: Sequence[KVMode], room: int) -> Iterator[_Standing]:
        """Sealed by every codec before the computed context goes on: states are those of its end."""
        with self._built(self._prepare("kv_at_rest", _ANY_AT_REST), 2 * (len(context) + room)) as (model, blocks):
            memory, spec = model.memory, model.profile.cache_spec
            per_cache = spec.blocks_for_tokens(len(context) + room)
            live = _computed(model, blocks[:per_cache], context)
            codecs = {mode: self._codec(mode, spec) for mode in modes if mode is not KVMode.EXACT}
            sealed = {}
            for number, (mode, codec) in enumerate(codecs.items(), 1):
                memory.with_codec(codec)
                ids = [BlockId(number * len(blocks) + block) for block in blocks]
                sealed[mode] = _seal(model, live, ids, len(context))
            yield _Standing(KVMode.EXACT, model, live, spec.bytes_per_token)
            memory.close(live)
            for mode, codec in codecs.items():
                memory.with_codec(codec)
                resumed = memory.open()
                memory.attach(resumed, blocks[per_cache : 2 * per_cache])
                memory.resume(resumed, [block_id for block_id, _ in sealed[mode]], len(context))
                yield _Standing(mode, model, resumed, _bytes_of(model, sealed[mode]) / len(context))
                memory.close(resumed)

    def _codec(self, mode: KVMode, spec: ModelCacheSpec) -> RowCodec:
        if mode is KVMode.PUBLISHED_4:
            return PublishedCodec(spec)
        codec = codec_for(_AT_REST[mode], spec)
        assert codec is not None, mode
        return codec

    def _prepare(self, option: str, kind: str) -> PreparedMLXModel:
        """The model as an engine with this option would run it."""
        if (option, kind) not in self._prepared:
            given: dict[str, Any] = {option: kind, "kv_group_size": self._group_size}
            prepared: Any = self._factory.prepare(self._loaded, EngineOptions(memory_bytes=_BUDGET, **given))
            self._prepared[option, kind] = prepared
        return self._prepared[option, kind]

    @contextmanager
    def _built(self, prepared: PreparedMLXModel, tokens: int) -> Iterator[tuple[MLXLanguageModel, list[BlockId]]]:
        """The model with memory for so many tokens, and the ids of its blocks; released when the context was used."""
        count = prepared.profile.cache_spec.blocks_for_tokens(tokens) + 1
        model = prepared.build(count)
        try:
            yield model, [BlockId(number) for number in range(count)]
        finally:
            model.release()


def _computed(model: MLXLanguageModel, blocks: Sequence[BlockId], context: Sequence[int]) -> Any:
    """A new cache that has read the context, in the engine's chunks."""
    cache = model.memory.open()
    model.memory.attach(cache, blocks)
    step = model.profile.prefill_step_size
    for start in range(0, len(context), step):
        model.prefill(cache, context[start : start + step])
    return cache


def _seal(model: MLXLanguageModel, cache: Any, blocks: Sequence[BlockId], tokens: int) -> list[tuple[BlockId, int]]:
    """Seal a context as its sequence's end would: whole blocks and the part behind them, each with its tokens."""
    size = model.profile.cache_spec.block_tokens
    spans = [(start, min(size, tokens - start)) for start in range(0, tokens, size)]
    for (start, count), block_id in zip(spans, blocks, strict=False):
        model.memory.seal(cache, block_id, start, count)
    return [(block_id, count) for (_, count), block_id in zip(spans, blocks, strict=False)]


def _bytes_of(model: MLXLanguageModel, sealed: Sequence[tuple[BlockId, int]]) -> int:
    """Bytes of the arrays that these blocks hold."""
    return sum(
        tensor.header.nbytes for block_id, tokens in sealed for tensor in model.memory.contents(block_id, tokens)
    )


def _logprobs(logits: mx.array) -> mx.array:
    wide = logits.astype(mx.float32)
    return wide - mx.logsumexp(wide, axis=-1, keepdims=True)


def _agreement(exact: mx.array, mode: mx.array, tokens: Sequence[int], bytes_per_token: float) -> Agreement:
    """Statistics of ``[tokens, vocab]`` log-probabilities; nothing of that size leaves this function."""
    divergence = (mx.exp(exact) * (exact - mode)).sum(axis=-1)
    own = mx.array(list(tokens))[:, None]
    loss, exact_loss = (_numbers(-mx.take_along_axis(each, own, axis=-1)[:, 0]) for each in (mode, exact))
    same = _numbers(mx.argmax(mode, axis=-1) == mx.argmax(exact, axis=-1))
    return Agreement(_numbers(divergence), loss, exact_loss, same, bytes_per_token)


def _numbers(array: mx.array) -> tuple[Any, ...]:
    listed: Any = array.tolist()
    return tuple(listed)
