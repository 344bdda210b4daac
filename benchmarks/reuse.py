"""What remembering is worth: hot, warm and cold time to first token, forks, and what writing behind costs."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.pairing import Ratio, ratio, take_turns

LENGTH, QUESTION, NEW = 4000, 24, 24
WRITE_BEHIND_NEW = 128


def hot(model: Any, tokenizer: Any, memory: str, repeats: int) -> Iterator[Ratio]:
    """A context that is cached but for its last token, a new question on it, and forks; all in memory."""
    from benchmarks.contestants import MlxLmOnCache, ours_solo, prompt_of, without_drafts

    prompt = prompt_of(tokenizer, LENGTH)
    asked = [*prompt, *prompt_of(tokenizer, QUESTION, variant=7)]
    with without_drafts((model, tokenizer), memory=memory) as engine:
        theirs = MlxLmOnCache(model, tokenizer, prompt)
        cold = ours_solo(engine, prompt, NEW)["ttft_s"]
        steps = [1 / ours_solo(engine, prompt, NEW)["decode_tokens_per_s"] for _ in range(repeats)]
        step = statistics.median(steps)

        def resumed() -> dict[str, float]:
            return {"ttft_s": ours_solo(engine, prompt, NEW)["ttft_s"] / step}

        context = [*prompt]

        def going_on() -> dict[str, float]:
            done = engine.generate(context, max_tokens=2)
            context.extend(done.token_ids)  # all but the last of these is in the cache, where it can be written on
            return {"ttft_s": done.timings.ttft_s / step}

        going_on()
        yield _single("hot, same prompt again / decode step", resumed, "ttft_s", repeats, "<= 1.2", step, "s")
        yield _single("hot, going on / decode step", going_on, "ttft_s", repeats, "<= 1.2", step, "s")

        def question(number: Iterator[int]) -> dict[str, float]:
            fresh = prompt_of(tokenizer, QUESTION, variant=100 + next(number))
            return ours_solo(engine, [*prompt, *fresh], NEW)

        numbers = iter(range(1000))
        contestants = {"ours": partial(question, numbers), "mlx_lm": partial(theirs.ask, asked[-QUESTION:], NEW)}
        rounds = take_turns(contestants, max(3, repeats))
        name = f"a question of {QUESTION} on {LENGTH} cached tokens"
        yield ratio(rounds, "ttft_s", reference="mlx_lm", name=name, unit="s", target="<= 0.6")
        yield _single("hot / cold time to first token, ours", resumed, "ttft_s", 1, "", cold / step, "s")
        yield from _forks(engine, prompt)


def _forks(engine: Any, prompt: Sequence[int]) -> Iterator[Ratio]:
    parent = engine.agent("parent")
    parent.generate(prompt, max_tokens=2)
    before = engine.stats().pool_free_blocks - engine.stats().pool_cached_blocks
    times = []
    for number in range(50):
        start = time.perf_counter()
        parent.fork(f"child {number}")
        times.append((time.perf_counter() - start) * 1000)
    engine.flush()
    after = engine.stats().pool_free_blocks - engine.stats().pool_cached_blocks
    middle = statistics.median(times)
    yield Ratio(
        "a fork, blocks copied: " + str(before - after), "ms", "< 5", middle, min(times), max(times), middle, 1.0
    )


def _single(
    name: str, run: Callable[[], dict[str, float]], key: str, repeats: int, target: str, reference: float, unit: str
) -> Ratio:
    values = [run()[key] for _ in range(repeats)]
    middle = statistics.median(values)
    return Ratio(name, unit, target, middle, min(values), max(values), middle * reference, reference)


def write_behind(model: Any, tokenizer: Any, memory: str, repeats: int) -> Iterator[Ratio]:
    """Decoding right after a long prompt, while its blocks are being written, against an engine without a store."""
    from benchmarks.contestants import ours_solo, prompt_of, without_drafts

    numbers = iter(range(1000, 2000))

    def run(store: Path | None) -> dict[str, float]:
        folder = None if store is None else store / str(next(numbers))
        with without_drafts((model, tokenizer), memory=memory, store=folder) as engine:
            prompt = prompt_of(tokenizer, 1024, variant=next(numbers))
            return ours_solo(engine, prompt, WRITE_BEHIND_NEW)

    with tempfile.TemporaryDirectory() as folder:
        contestants = {"ours": partial(run, Path(folder)), "without": partial(run, None)}
        rounds = take_turns(contestants, max(3, repeats))
    name = "decode while blocks are written / without a store"
    yield ratio(rounds, "decode_tokens_per_s", reference="without", name=name, unit="tok/s", target="> 0.97")


def restart(name: str, repeats: int) -> Iterator[Ratio]:
    """The first token in a new process, with the context in the store; against the sum of its parts, and mlx_lm."""
    from benchmarks.processes import Child

    folder = Path(tempfile.mkdtemp(prefix="semantic-bench-"))
    try:
        with Child("prepare", name, folder) as child:
            made = child.result()
        yield _plain("wait until durable / mlx_lm's save, not synced", made, "our_save_s", "mlx_lm_save_s", "s", "< 1")
        everyone = ("ours", "ours cold", "mlx_lm cold")
        contestants = {who: partial(Child.run, who, name, folder, False) for who in everyone}
        rounds = take_turns(contestants, 1 if repeats < 3 else 2)
        for reference, target in (("ours cold", "<= 0.02"), ("mlx_lm cold", "<= 0.0067")):
            title = f"warm, from the page cache, against {_TITLES[reference]}"
            yield ratio(rounds, "ttft_s", reference=reference, name=title, unit="s", target=target)
        for cached in ("page cache", "disk"):  # the disk last: it leaves the page cache empty
            contestants = {
                who: partial(Child.run, who, name, folder, cached == "disk") for who in ("ours", "parts", "mlx_lm file")
            }
            rounds = take_turns(contestants, max(3, repeats))
            for reference, target in (("parts", "<= 2 (aim 1.5)"), ("mlx_lm file", "< 1")):
                title = f"warm, from the {cached}, against {_TITLES[reference]}"
                yield ratio(rounds, "ttft_s", reference=reference, name=title, unit="s", target=target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restart_kv4(name: str, repeats: int) -> Iterator[Ratio]:
    """The first token in a new process, with the context in the store in 4 bits, against it being there exactly."""
    from benchmarks.processes import KINDS, Child

    folder = Path(tempfile.mkdtemp(prefix="semantic-bench-"))
    in_bits = [kind for kind in KINDS if kind != "exact"]
    try:
        with Child("prepare kinds", name, folder) as child:
            made = child.result()
        for kind in in_bits:
            yield _plain(f"bytes in the store, {kind} / exact", made, kind, "exact", "bytes", "<= 0.17")
        for cached in ("page cache", "disk"):  # the disk last: it leaves the page cache empty
            contestants = {
                kind: partial(Child.run, f"restored {kind}", name, folder, cached == "disk") for kind in KINDS
            }
            rounds = take_turns(contestants, max(3, repeats))
            for kind in in_bits:
                for key, what in _OF_RESTORING.items():
                    target = "< 1" if (cached, key) == ("disk", "restore_s") else ""
                    title = f"{kind} from the {cached} / exact, {what}"
                    yield ratio(rounds, key, reference="exact", name=title, unit="s", target=target, contestant=kind)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_OF_RESTORING = {"ttft_s": "first token", "restore_s": "restoring alone", "processor_s": "processor"}

_TITLES = {
    "parts": "decode step + reading",
    "mlx_lm file": "mlx_lm's prompt cache file",
    "ours cold": "ours cold",
    "mlx_lm cold": "mlx_lm cold",
}


def _plain(name: str, figures: dict[str, float], ours: str, reference: str, unit: str, target: str) -> Ratio:
    value = figures[ours] / figures[reference]
    return Ratio(name, unit, target, value, value, value, figures[ours], figures[reference])
