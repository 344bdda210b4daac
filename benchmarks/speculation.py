"""Speculation: the same engine with drafts and without in turn, and mlx_lm, on prompts that are copied and others."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlx_lm import stream_generate

import semantic
from benchmarks.contestants import without_drafts
from benchmarks.pairing import Ratio, ratio, take_turns
from semantic.application.engine import Engine
from semantic.experiments import fixtures

_EXPERIMENTS = Path(__file__).parents[1] / "experiments" / "scripts"
_COPIED, _OTHER, _BATCH = 60, 96, 4


def speculation(loaded: Any, tokenizer: Any, memory: str, repeats: int) -> Iterator[Ratio]:
    """Tokens per second from the first token to the last, of each prompt; then of four copy-heavy ones at once."""
    known = fixtures(str(_EXPERIMENTS / "any"), "exp_015")
    others = {prompt[0]: prompt[1] for prompt in fixtures(str(_EXPERIMENTS / "any"), "exp_001").PROMPTS}
    with (
        semantic.open(loaded, memory=memory, prefix_caching=False) as drafting,
        without_drafts(loaded, memory=memory, prefix_caching=False) as plain,
    ):
        prompts = [("copy", name, prompt, _COPIED, ">= 1.5") for name, prompt in known.COPY_PROMPTS]
        long_enough = known.OTHER_NAMES[:-1]  # the last is answered in too few tokens to time
        prompts += [("other", name, others[name], _OTHER, ">= 0.97") for name in long_enough]
        for kind, name, prompt, max_tokens, target in prompts:
            token_ids = drafting.encode(prompt)
            contestants = {
                "ours": partial(_decode, drafting, token_ids, max_tokens),
                "plain": partial(_decode, plain, token_ids, max_tokens),
                "mlx_lm": partial(_mlx_lm_decode, loaded[0], tokenizer, token_ids, max_tokens),
            }
            rounds = take_turns(contestants, repeats)
            against = partial(ratio, rounds, "tokens_per_s", unit="tok/s")
            yield against(reference="plain", name=f"{kind}, {name}: drafts, against none", target=target)
            yield against(reference="mlx_lm", name=f"{kind}, {name}: drafts, against mlx_lm", target="-")
        batch = [drafting.encode(prompt) for _, prompt in known.COPY_PROMPTS[:_BATCH]]
        rounds = take_turns(
            {"ours": partial(_decode_batch, drafting, batch), "plain": partial(_decode_batch, plain, batch)}, repeats
        )
        name = f"copy, batch of {_BATCH}: drafts, against none"
        yield ratio(rounds, "tokens_per_s", reference="plain", name=name, unit="tok/s", target="> 1.0")


def _decode(engine: Engine, prompt: Sequence[int], max_tokens: int) -> dict[str, float]:
    return {"tokens_per_s": engine.generate(prompt, max_tokens=max_tokens).timings.decode_tokens_per_s}


def _decode_batch(engine: Engine, prompts: Sequence[Sequence[int]]) -> dict[str, float]:
    """Prefill included: a batch has no first token of its own."""
    start = time.perf_counter()
    tokens = sum(done.usage.completion_tokens for done in engine.batch_generate(prompts, max_tokens=_COPIED))
    return {"tokens_per_s": tokens / (time.perf_counter() - start)}


def _mlx_lm_decode(model: Any, tokenizer: Any, prompt: Sequence[int], max_tokens: int) -> dict[str, float]:
    responses = stream_generate(model, tokenizer, list(prompt), max_tokens=max_tokens)
    stamps = [time.perf_counter() for _ in responses]
    return {"tokens_per_s": (len(stamps) - 1) / (stamps[-1] - stamps[0])}
