"""This engine and mlx_lm in turn; ratios printed, also as JSON. `--help` lists the parts."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs

import semantic
from benchmarks import reuse, work
from benchmarks.pairing import Ratio, ratio, take_turns
from semantic.domain.value_objects import parse_size

DECODE_TARGETS = {256: ">= 1.0", 1000: ">= 1.0", 4000: ">= 1.25"}
TTFT_TARGETS = {1000: "<= 0.55", 4000: "<= 0.35"}
BATCH, BATCH_PROMPT, BATCH_NEW = 8, 128, 64


def main() -> None:
    """Run the chosen parts."""
    arguments = _arguments()
    model, tokenizer = semantic.load(arguments.model)  # the BLAS is loaded before anything imports mlx
    from benchmarks.contestants import without_drafts

    parts = arguments.only or list(PARTS)
    results: list[Ratio] = []
    print(f"{'ours / reference':<44} {'median  (range)':<26} {'ours / reference':<30}   target")
    with without_drafts((model, tokenizer), memory=arguments.memory, prefix_caching=False) as engine:
        for part in parts:
            for result in PARTS[part](engine, model, tokenizer, arguments):
                print(result.line(), flush=True)
                results.append(result)
    if arguments.json:
        facts = {"model": arguments.model, "results": [attrs.asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


def solo(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """One prompt of 256, 1,000 and 4,000 tokens: decode rate and time to first token."""
    from benchmarks.contestants import mlx_lm_solo, ours_solo, prompt_of

    for length, target in DECODE_TARGETS.items():
        prompt = prompt_of(tokenizer, length)
        contestants = {
            "ours": partial(ours_solo, engine, prompt, arguments.new_tokens),
            "mlx_lm": partial(mlx_lm_solo, model, tokenizer, prompt, arguments.new_tokens),
        }
        against = partial(ratio, take_turns(contestants, arguments.repeats), reference="mlx_lm")
        yield against("decode_tokens_per_s", name=f"decode after {length} tokens", unit="tok/s", target=target)
        if length in TTFT_TARGETS:
            name = f"time to first token, {length} tokens"
            yield against("ttft_s", name=name, unit="s", target=TTFT_TARGETS[length])


def batch(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """Eight prompts at once."""
    from benchmarks.contestants import mlx_lm_batch, mlx_lm_one_by_one, ours_batch, prompt_of

    prompts = [prompt_of(tokenizer, BATCH_PROMPT, variant) for variant in range(BATCH)]
    contestants: dict[str, Callable[[], dict[str, float]]] = {
        "ours": partial(ours_batch, engine, prompts, BATCH_NEW),
        "one by one": partial(mlx_lm_one_by_one, model, tokenizer, prompts, BATCH_NEW),
        "batch": partial(mlx_lm_batch, model, tokenizer, prompts, BATCH_NEW),
    }
    for contestant in contestants.values():
        contestant()  # the first time pages, threads and kernels are new to everyone
    rounds = take_turns(contestants, arguments.repeats)
    for reference, target in (("one by one", ">= 4.5"), ("batch", ">= 1.0")):
        yield ratio(
            rounds,
            "tokens_per_s",
            reference=reference,
            name=f"batch of {BATCH}, against mlx_lm {reference}",
            unit="tok/s",
            target=target,
        )


def overhead(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """The share of a step that is not the model's forward."""
    yield from work.overhead((model, tokenizer), tokenizer, arguments.repeats)


def memory(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """Peak resident memory, each in a process of its own."""
    yield from work.memory(arguments.model, arguments.repeats)


def hot(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """Context in memory, and forks."""
    yield from reuse.hot(model, tokenizer, arguments.memory, arguments.repeats)


def write_behind(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """What a store costs decoding."""
    yield from reuse.write_behind(model, tokenizer, arguments.memory, arguments.repeats)


def restart(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """Context in the store, each in a process of its own."""
    yield from reuse.restart(arguments.model, arguments.repeats)


def restart_kv4(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """Context in the store in 4 bits against exact."""
    yield from reuse.restart_kv4(arguments.model, arguments.repeats)


def kv_bits(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """Decoding on 8-bit caches."""
    from benchmarks import kv_bits as part

    yield from part.kv_bits((model, tokenizer), tokenizer, parse_size(arguments.memory), arguments.repeats)


def speculation(engine: Any, model: Any, tokenizer: Any, arguments: argparse.Namespace) -> Iterator[Ratio]:
    """Drafts from the context."""
    from benchmarks import speculation as part

    yield from part.speculation((model, tokenizer), tokenizer, arguments.memory, arguments.repeats)


PARTS: dict[str, Callable[[Any, Any, Any, argparse.Namespace], Iterator[Ratio]]] = {
    "solo": solo,
    "batch": batch,
    "overhead": overhead,
    "memory": memory,
    "hot": hot,
    "write_behind": write_behind,
    "restart": restart,
    "restart_kv4": restart_kv4,
    "kv_bits": kv_bits,
    "speculation": speculation,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="a known name, a folder, a .gguf file or a hub id")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each part (default 3)")
    parser.add_argument("--new-tokens", type=int, default=64, help="tokens generated for solo figures (default 64)")
    parser.add_argument("--memory", default="2GB", help="the engine's budget for KV blocks")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
