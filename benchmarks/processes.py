"""Figures that need a process of their own: ``python -m benchmarks.processes WHO MODEL FOLDER DROP``."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LENGTH, NEW = 4000, 16

KINDS: dict[str, dict[str, Any]] = {
    "exact": {},
    "4 bits at rest": {"kv_at_rest": "4"},
    "4 bits in compute": {"kv_bits": 4},
}
"""What an engine's blocks hold, and the options that it is opened with."""


class Child:
    """One such process."""

    def __init__(self, who: str, model: str, folder: Path, drop: bool = False) -> None:
        command = [sys.executable, "-m", "benchmarks.processes", who, model, str(folder), str(int(drop))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result(self) -> dict[str, float]:
        """Wait for its figures."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise SystemExit(f"a benchmark's process failed with {self._process.returncode}")
        figures: dict[str, float] = json.loads(output.splitlines()[-1])
        return figures

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    @classmethod
    def run(cls, who: str, model: str, folder: Path, drop: bool) -> dict[str, float]:
        """Start one and wait for its figures."""
        with cls(who, model, folder, drop) as child:
            return child.result()


def main() -> None:
    """Do what the arguments say and print figures as JSON."""
    who, name, folder, drop = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4] == "1"
    import semantic

    model, tokenizer = semantic.load(name)
    from benchmarks.contestants import prompt_of

    prompt = prompt_of(tokenizer, LENGTH)
    if drop:
        _drop_from_page_cache(folder)
    print(json.dumps(_DO[who](model, tokenizer, folder, prompt)))


def _prepare_kinds(model: Any, tokenizer: Any, folder: Path, prompt: list[int]) -> dict[str, float]:
    """Leave the context in a store for each kind."""
    for kind in KINDS:
        with _of_kind(kind, model, tokenizer, folder) as engine:
            engine.generate(prompt, max_tokens=1)
    return {kind: _size(folder / kind) for kind in KINDS}


def _of_kind(kind: str, model: Any, tokenizer: Any, folder: Path) -> Any:
    from benchmarks.contestants import without_drafts

    return without_drafts((model, tokenizer), memory="1GB", store=folder / kind, **KINDS[kind])


def _restored(kind: str, model: Any, tokenizer: Any, folder: Path, prompt: list[int]) -> dict[str, float]:
    """The first token behind a context from such a store; processor time beside it, which a busy machine bends less."""
    from benchmarks.contestants import ours_solo

    with _of_kind(kind, model, tokenizer, folder) as engine:
        before = time.process_time()
        first = engine.generate(prompt, max_tokens=1).timings.ttft_s
        used = time.process_time() - before
        stats = engine.stats()
        assert stats.cached_tokens_from_store == LENGTH - 1, stats
        step = 1 / ours_solo(engine, prompt, NEW)["decode_tokens_per_s"]
    return {"ttft_s": first, "restore_s": first - step, "processor_s": used}


def _size(folder: Path) -> float:
    return float(sum(file.stat().st_size for file in folder.rglob("*.safetensors")))


def _prepare(model: Any, tokenizer: Any, folder: Path, prompt: list[int]) -> dict[str, float]:
    """Leave the context in our store and in a prompt cache file of mlx_lm's; what each waits for after the reply."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.models.cache import make_prompt_cache, save_prompt_cache

    from benchmarks.contestants import without_drafts

    with without_drafts((model, tokenizer), memory="1GB", store=folder / "store") as engine:
        engine.generate(prompt, max_tokens=1)
        start = time.perf_counter()
        engine.flush()  # most of it was written while the prompt was read
        ours = time.perf_counter() - start
    cache = make_prompt_cache(model)
    for _ in generate_step(mx.array(prompt), model, max_tokens=1, prompt_cache=cache, prefill_step_size=256):
        break
    start = time.perf_counter()
    save_prompt_cache(str(folder / "mlx_lm.safetensors"), cache)
    return {"our_save_s": ours, "mlx_lm_save_s": time.perf_counter() - start}


def _ours(model: Any, tokenizer: Any, folder: Path, prompt: list[int]) -> dict[str, float]:
    from benchmarks.contestants import ours_solo, without_drafts

    with without_drafts((model, tokenizer), memory="1GB", store=folder / "store") as engine:
        figures = ours_solo(engine, prompt, NEW)
        stats = engine.stats()
        assert stats.cached_tokens_from_store == LENGTH - 1, stats
    return figures


def _ours_cold(model: Any, tokenizer: Any, folder: Path, prompt: list[int]) -> dict[str, float]:
    from benchmarks.contestants import ours_solo, without_drafts

    with without_drafts((model, tokenizer), memory="1GB") as engine:
        return ours_solo(engine, prompt, NEW)


def _parts(model: Any, tokenizer: Any, folder: Path, prompt: list[int]) -> dict[str, float]:
    """Reading the files plainly, each into fresh memory, and one decode step on the same context."""
    files = sorted((folder / "store" / "blocks").rglob("*.safetensors"))
    start = time.perf_counter()
    contents = [file.read_bytes() for file in files]
    reading = time.perf_counter() - start
    assert sum(map(len, contents)) > LENGTH * 1000
    del contents
    step = 1 / _ours(model, tokenizer, folder, prompt)["decode_tokens_per_s"]
    return {"ttft_s": reading + step, "reading_s": reading, "step_s": step}


def _mlx_lm_file(model: Any, tokenizer: Any, folder: Path, prompt: list[int]) -> dict[str, float]:
    """``load_prompt_cache`` and the first token of the last prompt token."""
    from mlx_lm import stream_generate
    from mlx_lm.models.cache import load_prompt_cache, trim_prompt_cache

    start = time.perf_counter()
    cache = load_prompt_cache(str(folder / "mlx_lm.safetensors"))
    trim_prompt_cache(cache, cache[0].offset - (LENGTH - 1))
    for _ in stream_generate(model, tokenizer, prompt[-1:], max_tokens=1, prompt_cache=cache):
        break
    return {"ttft_s": time.perf_counter() - start}


def _mlx_lm_cold(model: Any, tokenizer: Any, folder: Path, prompt: list[int]) -> dict[str, float]:
    from mlx_lm import stream_generate

    start = time.perf_counter()
    for _ in stream_generate(model, tokenizer, prompt, max_tokens=1):
        break
    return {"ttft_s": time.perf_counter() - start}


def _drop_from_page_cache(folder: Path) -> None:
    """Ask the system to read these files from the disk next time."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


_DO = {
    "prepare": _prepare,
    "prepare kinds": _prepare_kinds,
    **{f"restored {kind}": partial(_restored, kind) for kind in KINDS},
    "ours": _ours,
    "ours cold": _ours_cold,
    "parts": _parts,
    "mlx_lm file": _mlx_lm_file,
    "mlx_lm cold": _mlx_lm_cold,
}

if __name__ == "__main__":
    main()
