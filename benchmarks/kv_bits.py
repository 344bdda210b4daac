"""Decoding on caches that are quantised in compute: does a batch gain as much as one of exact caches does?"""

import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

from benchmarks.contestants import prompt_of
from benchmarks.pairing import Ratio, take_turns
from semantic.adapters.clock import SystemClock
from semantic.adapters.telemetry import NullTelemetry
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.engine_options import EngineOptions
from semantic.container import make_container
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import SamplingParams

ROWS, TOKENS, OWN_TOKENS = 8, 1000, 8
_STEPS = 24


def kv_bits(loaded: Any, tokenizer: Any, memory_bytes: int, repeats: int) -> Iterator[Ratio]:
    """Tokens per second of 8 rows with 8-bit keys and values, over mlx_lm's of one times the gain of exact rows."""
    shared = prompt_of(tokenizer, TOKENS - OWN_TOKENS)  # so that prefill, which is not measured, is over soon
    prompts = [shared + prompt_of(tokenizer, OWN_TOKENS, variant + 1) for variant in range(ROWS)]
    model = loaded[0]
    exact, quantised = (_Batch(loaded, prompts, memory_bytes, bits) for bits in (None, 8))
    caches = _filled(model, prompts[0][:-1])
    stock = _Stock(model, caches, prompts[0][-1])
    stock_quantised = _Stock(model, [cache.to_quantized(group_size=64, bits=8) for cache in caches], prompts[0][-1])
    rounds = take_turns(
        {
            "ours": quantised.decode,
            "exact": exact.decode,
            "mlx_lm": stock_quantised.decode,
            "mlx_lm exact": stock.decode,
        },
        repeats,
    )
    for batch in (exact, quantised):
        batch.close()
    rates = [{who: figures["tokens_per_s"] for who, figures in turn.items()} for turn in rounds]
    figure = partial(_figure, rates)
    yield figure(
        [rate["mlx_lm"] * rate["exact"] / rate["mlx_lm exact"] for rate in rates],
        name=f"{ROWS} rows of 8-bit KV, against solo x exact gain",
        target=">= 1.0",
    )
    yield figure([rate["mlx_lm"] for rate in rates], name=f"{ROWS} rows of 8-bit KV, against mlx_lm solo", target="-")
    yield figure([rate["exact"] for rate in rates], name=f"{ROWS} rows of 8-bit KV, against exact rows", target="-")


def _figure(rates: Sequence[dict[str, float]], references: Sequence[float], *, name: str, target: str) -> Ratio:
    ours = [rate["ours"] for rate in rates]
    ratios = [a / b for a, b in zip(ours, references, strict=True)]
    return Ratio(
        name=name,
        unit="tok/s",
        target=target,
        median=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        ours=statistics.median(ours),
        reference=statistics.median(references),
    )


def _filled(model: Any, context: Sequence[int]) -> list[Any]:
    caches: list[Any] = make_prompt_cache(model)
    for start in range(0, len(context), 256):
        model(mx.array([list(context[start : start + 256])]), cache=caches)
        mx.eval([cache.state for cache in caches])
    return caches


class _Stock:
    """mlx_lm's ``generate_step`` on a prompt cache that holds a context, cut back to it after each round."""

    def __init__(self, model: Any, caches: list[Any], last_token: int) -> None:
        self._model, self._caches, self._last = model, caches, last_token

    def decode(self) -> dict[str, float]:
        """Tokens per second after the first two."""
        stamps = []
        for _ in generate_step(mx.array([self._last]), self._model, max_tokens=_STEPS + 2, prompt_cache=self._caches):
            stamps.append(time.perf_counter())
        trim_prompt_cache(self._caches, self._caches[0].offset - TOKENS + 1)
        return {"tokens_per_s": (len(stamps) - 2) / (stamps[-1] - stamps[1])}


class _Batch:
    """An engine that answers the same prompts in every round; after the first their contexts are in memory."""

    def __init__(self, loaded: Any, prompts: Sequence[list[int]], memory_bytes: int, bits: int | None) -> None:
        container = make_container(quiet=True)
        factory = container.model_factory()
        prepared = factory.prepare(factory.adopt(*loaded), EngineOptions(memory_bytes=memory_bytes, kv_bits=bits))
        pool = BlockPool.from_budget(memory_bytes, prepared.profile.cache_spec)
        self._prompts = prompts
        self._engine = BlockPoolBatchEngine(
            model=prepared.build(pool.total_blocks),
            tokenizer=None,  # nothing ends a reply before its time
            pool=pool,
            clock=SystemClock(),
            telemetry=NullTelemetry(),
        )
        self.decode()

    def decode(self) -> dict[str, float]:
        """Tokens per second of steps in which all rows take part."""
        ids = [self._engine.submit(prompt, SamplingParams(max_tokens=_STEPS + 64)) for prompt in self._prompts]
        for _ in range(2):  # the first step that all take part in, and one more
            while len(self._engine.step()) < len(ids):
                pass
        start = time.perf_counter()
        tokens = sum(len(self._engine.step()) for _ in range(_STEPS))
        elapsed = time.perf_counter() - start
        for request_id in ids:
            self._engine.cancel(request_id)
        return {"tokens_per_s": tokens / elapsed}

    def close(self) -> None:
        """End the engine."""
        self._engine.close()
