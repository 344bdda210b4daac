"""The same work done by this engine and by mlx_lm, on one model object."""

import time
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm import batch_generate, stream_generate
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

import semantic
from semantic.application.engine import Engine

TEXT = (
    "The lighthouse keeper wrote down the weather every evening, whether or not anyone would read it. On the first "
    "page of the thirty-second notebook he explained why: a record is a kind of promise. If the wind turned in the "
    "night, the ships would know only what had been written before. So he noted the height of the waves, the colour "
    "of the clouds over the cape, and the number of gulls on the railing, although no rule asked for gulls. "
)


def without_drafts(pair: tuple[Any, Any], **options: Any) -> Engine:
    """An engine that computes every token in a step of its own, as mlx_lm does."""
    return semantic.open(pair, prompt_lookup_num_tokens=0, **options)


def prompt_of(tokenizer: Any, length: int, variant: int = 0) -> list[int]:
    """``length`` token ids of running English; variants differ from their first words on."""
    text = f"Notebook {variant}. " + TEXT
    token_ids: list[int] = []
    while len(token_ids) < length:
        token_ids += tokenizer.encode(text, add_special_tokens=False)
    return token_ids[:length]


def ours_solo(engine: Engine, prompt: Sequence[int], max_tokens: int) -> dict[str, float]:
    """Time to first token, and tokens per second after it."""
    start = time.perf_counter()
    stamps = [time.perf_counter() for delta in engine.stream(prompt, max_tokens=max_tokens) if delta.token_ids]
    return _solo(start, stamps)


def mlx_lm_solo(model: Any, tokenizer: Any, prompt: Sequence[int], max_tokens: int) -> dict[str, float]:
    """The same, by ``mlx_lm.stream_generate`` with its defaults."""
    start = time.perf_counter()
    responses = stream_generate(model, tokenizer, list(prompt), max_tokens=max_tokens)
    return _solo(start, [time.perf_counter() for _ in responses])


class MlxLmOnCache:
    """``mlx_lm.stream_generate`` on a prompt cache that holds a context, cut back to it after each question."""

    def __init__(self, model: Any, tokenizer: Any, context: Sequence[int]) -> None:
        self._model, self._tokenizer, self._length = model, tokenizer, len(context)
        self._cache = make_prompt_cache(model)
        for start in range(0, len(context), 256):
            model(mx.array([list(context[start : start + 256])]), cache=self._cache)
            mx.eval([cache.state for cache in self._cache])

    def ask(self, question: Sequence[int], max_tokens: int) -> dict[str, float]:
        """Time to first token and decode rate of a question on the context."""
        start = time.perf_counter()
        responses = stream_generate(
            self._model, self._tokenizer, list(question), max_tokens=max_tokens, prompt_cache=self._cache
        )
        stamps = [time.perf_counter() for _ in responses]
        trim_prompt_cache(self._cache, self._cache[0].offset - self._length)
        return _solo(start, stamps)


def ours_batch(engine: Engine, prompts: Sequence[Sequence[int]], max_tokens: int) -> dict[str, float]:
    """Generated tokens per second, prefill included."""
    start = time.perf_counter()
    tokens = sum(done.usage.completion_tokens for done in engine.batch_generate(prompts, max_tokens=max_tokens))
    return {"tokens_per_s": tokens / (time.perf_counter() - start)}


def mlx_lm_one_by_one(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], max_tokens: int
) -> dict[str, float]:
    """What ``mlx_lm.generate`` does, prompt after prompt."""
    start, tokens = time.perf_counter(), 0
    for prompt in prompts:
        *_, last = stream_generate(model, tokenizer, list(prompt), max_tokens=max_tokens)
        tokens += last.generation_tokens
    return {"tokens_per_s": tokens / (time.perf_counter() - start)}


def mlx_lm_batch(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], max_tokens: int) -> dict[str, float]:
    """All prompts in one ``mlx_lm.batch_generate``."""
    start = time.perf_counter()
    done = batch_generate(model, tokenizer, [list(prompt) for prompt in prompts], max_tokens=max_tokens)
    elapsed = time.perf_counter() - start
    return {"tokens_per_s": done.stats.generation_tokens / elapsed}


def _solo(start: float, stamps: list[float]) -> dict[str, float]:
    mx.clear_cache()
    if len(stamps) < 8:
        raise SystemExit(f"only {len(stamps)} tokens came before the end of sequence; choose another prompt")
    return {"ttft_s": stamps[0] - start, "decode_tokens_per_s": (len(stamps) - 2) / (stamps[-1] - stamps[1])}
