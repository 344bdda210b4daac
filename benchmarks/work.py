"""Figures that are no race: what the engine adds to a forward, and the memory that a process needs."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.pairing import Ratio, ratio, take_turns
from semantic.adapters.clock import SystemClock
from semantic.adapters.telemetry import NullTelemetry
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.ports.model import DecodeRow, Drawn
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import SamplingParams

_STEPS = 48


class _TimedModel:
    """The engine's model with a stopwatch on its decode forward."""

    def __init__(self, model: Any) -> None:
        self._model, self.forward_s = model, 0.0
        self.profile, self.memory, self.prefill = model.profile, model.memory, model.prefill

    def decode(self, rows: Sequence[DecodeRow]) -> list[tuple[Drawn, ...]]:
        start = time.perf_counter()
        try:
            drawn: list[tuple[Drawn, ...]] = self._model.decode(rows)
            return drawn
        finally:
            self.forward_s += time.perf_counter() - start

    def release(self) -> None:
        self._model.release()


def overhead(loaded: Any, tokenizer: Any, repeats: int) -> Iterator[Ratio]:
    """A decode step's time outside the forward, as a share of the step, for 1 and 8 rows."""
    from benchmarks.contestants import prompt_of

    for rows in (1, 8):
        shares, steps, forwards = [], [], []
        for _ in range(repeats):
            step_s, forward_s = _steps(loaded, [prompt_of(tokenizer, 64, variant) for variant in range(rows)])
            shares.append((step_s - forward_s) / step_s)
            steps.append(step_s * 1000)
            forwards.append(forward_s * 1000)
        yield Ratio(
            name=f"engine outside the forward, {rows} rows",
            unit="ms/step",
            target="< 0.03",
            median=sorted(shares)[len(shares) // 2],
            low=min(shares),
            high=max(shares),
            ours=sorted(steps)[len(steps) // 2] - sorted(forwards)[len(forwards) // 2],
            reference=sorted(steps)[len(steps) // 2],
        )


def _steps(loaded: Any, prompts: list[list[int]]) -> tuple[float, float]:
    """Mean seconds of a decode step, and of its forward, on this thread."""
    from semantic.application.engine_options import EngineOptions
    from semantic.container import make_container

    container = make_container(quiet=True)
    factory = container.model_factory()
    prepared = factory.prepare(factory.adopt(*loaded), EngineOptions(memory_bytes=10**9))
    pool = BlockPool.from_budget(10**9, prepared.profile.cache_spec)
    model = _TimedModel(prepared.build(pool.total_blocks))
    engine = BlockPoolBatchEngine(
        model=model,  # type: ignore[arg-type]
        tokenizer=container.make_tokenizer()(loaded[1]),
        pool=pool,
        clock=SystemClock(),
        telemetry=NullTelemetry(),
    )
    for prompt in prompts:
        engine.submit(prompt, SamplingParams(max_tokens=_STEPS + 8))
    while engine.stats().prefilled_tokens < sum(len(prompt) - 1 for prompt in prompts):
        engine.step()
    for _ in range(4):
        engine.step()
    model.forward_s, start = 0.0, time.perf_counter()
    for _ in range(_STEPS - 8):
        engine.step()
    elapsed = time.perf_counter() - start
    engine.close()
    return elapsed / (_STEPS - 8), model.forward_s / (_STEPS - 8)


_CHILD = """
import json, resource, sys
import semantic
model, tokenizer = semantic.load(sys.argv[1])
from benchmarks.contestants import mlx_lm_solo, ours_solo, prompt_of, without_drafts
prompt = prompt_of(tokenizer, int(sys.argv[3]))
if sys.argv[2] == "ours":
    with without_drafts((model, tokenizer), memory="1GB") as engine:
        ours_solo(engine, prompt, 32)
else:
    mlx_lm_solo(model, tokenizer, prompt, 32)
if sys.platform == "linux":  # ru_maxrss is inherited from the process that started this one
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    peak = int(line.split()[1]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak_mb": peak / 1e6}))
"""


def memory(model: str, repeats: int) -> Iterator[Ratio]:
    """Peak resident megabytes of a fresh process that loads the model and answers one prompt."""
    for length in (1000, 4000):

        def run(who: str, length: int = length) -> dict[str, float]:
            command = [sys.executable, "-c", _CHILD, model, who, str(length)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
            return figures

        rounds = take_turns({"ours": lambda: run("ours"), "mlx_lm": lambda: run("mlx_lm")}, min(repeats, 2))
        yield ratio(
            rounds,
            "peak_mb",
            reference="mlx_lm",
            name=f"peak memory, prompt of {length} tokens",
            unit="MB",
            target="<= 1.0",
        )
