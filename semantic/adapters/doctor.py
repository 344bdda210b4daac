"""Looks over the installation: what is there, what is wrong with it, and what to do about it."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
from attrs import frozen

from semantic.adapters.mlx.cores import usable_cores
from semantic.adapters.mlx.runtime import Prepare, Runtime
from semantic.adapters.model_sources.catalogue import FileSource
from semantic.domain.errors import SemanticError

State = Literal["ok", "warn", "fail"]

_TESTED_MLX = "0.32"
_GB = 10**9
_NEEDED_MEMORY = 2 * _GB
_NEEDED_DISK = _GB // 2


@frozen
class Finding:
    """One thing looked at. ``hint`` says what to do; empty where all is well."""

    name: str
    state: State
    value: str
    hint: str = ""


def examine(prepare: Prepare, models: FileSource, default_model: str, cache: Path) -> list[Finding]:
    """Every finding, in the order a person would ask. Never raises: what fails is a finding."""
    findings = [_python(), *_memory(), *_load(), *_cache(cache), _model(models, default_model)]
    try:
        runtime = prepare()
    except (ImportError, OSError, SemanticError) as exc:
        hint = "reinstall with: pip install --force-reinstall mlx mlx-lm"
        if isinstance(exc, SemanticError):
            hint = "change the setting the message names"
        return [*findings, Finding("mlx", "fail", f"{type(exc).__name__}: {exc}", hint)]
    return [*findings, *_runtime(runtime)]


def _python() -> Finding:
    found = platform.python_version()
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("python", "ok", f"{found} at {sys.executable}")
    return Finding("python", "fail", found, "use Python 3.11, 3.12 or 3.13")


def _runtime(runtime: Runtime) -> Iterator[Finding]:
    yield Finding("semantic-kv", "ok", _version("semantic-kv"))
    for name, version in (("mlx", runtime.mlx_version), ("mlx-lm", runtime.mlx_lm_version)):
        tested = version.startswith(f"{_TESTED_MLX}.")
        hint = "" if tested else f"tested with {_TESTED_MLX}.*: pip install '{name}=={_TESTED_MLX}.*'"
        yield Finding(name, "ok" if tested else "warn", version, hint)
    yield Finding("device", "ok", f"{runtime.device} ({runtime.device_name})")
    yield _dtype(runtime)
    yield from _blas(runtime)
    if runtime.device == "cpu":
        value = "g++ found" if runtime.compiles else "none that works"
        yield Finding("compiler", "ok" if runtime.compiles else "warn", value, runtime.compiler_note)


def _dtype(runtime: Runtime) -> Finding:
    slow = runtime.device == "cpu" and runtime.compute_dtype != "float32"
    hint = "16-bit arithmetic is very slow on CPU: unset SEMANTIC_COMPUTE_DTYPE for float32" if slow else ""
    return Finding("compute dtype", "warn" if slow else "ok", runtime.compute_dtype, hint)


def _blas(runtime: Runtime) -> Iterator[Finding]:
    report = runtime.blas
    if not report.active:
        matters = sys.platform == "linux" and platform.machine() == "x86_64" and runtime.device == "cpu"
        hint = f"prompts are read 20 to 40 times slower without OpenBLAS: {'; '.join(report.tried) or report.reason}"
        yield Finding("blas", "warn" if matters else "ok", f"MLX's own ({report.reason})", hint if matters else "")
        return
    yield Finding("blas", "ok", f"{report.config.strip()} at {report.library}")
    cores, threads = usable_cores(), report.threads or 0
    crowded = threads > cores
    hint = f"more threads than the {cores} usable cores slow each other down: set SEMANTIC_BLAS_THREADS"
    yield Finding("blas threads", "warn" if crowded else "ok", f"{threads} on {cores} cores", hint if crowded else "")


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    low = memory.available < _NEEDED_MEMORY
    hint = "the default model wants 2 GB: close something, or set a smaller SEMANTIC_MEMORY" if low else ""
    value = f"{memory.available / _GB:.1f} GB available of {memory.total / _GB:.1f}"
    yield Finding("memory", "warn" if low else "ok", value, hint)


def _load() -> Iterator[Finding]:
    if hasattr(os, "getloadavg"):
        busy, cores = os.getloadavg()[0], usable_cores()
        crowded = busy > cores * 0.75
        hint = "others use these cores; threads that wait for each other then stall: try SEMANTIC_BLAS_THREADS=1"
        yield Finding("load", "warn" if crowded else "ok", f"{busy:.1f} on {cores} cores", hint if crowded else "")


def _cache(cache: Path) -> Iterator[Finding]:
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not os.access(there, os.W_OK):
        yield Finding("model cache", "fail", str(cache), f"{there} cannot be written: set SEMANTIC_MODEL_CACHE")
        return
    models = [entry for entry in sorted(cache.glob("*")) if entry.is_dir()]
    held = ", ".join(f"{model.name} {_nbytes(model) / 1e6:.0f} MB" for model in models) or "empty"
    free = shutil.disk_usage(there).free
    low = free < _NEEDED_DISK and not models
    hint = f"{free / 1e6:.0f} MB are free there and the default model needs 200 while it is fetched" if low else ""
    yield Finding("model cache", "warn" if low else "ok", f"{cache} ({held})", hint)


def _model(models: FileSource, name: str) -> Finding:
    try:
        fetched = models.is_fetched(name)
    except SemanticError as exc:
        return Finding("model", "fail", name, str(exc))
    hint = "" if fetched else f"it is fetched on first use, or now with: semantic model fetch {name}"
    return Finding("model", "ok" if fetched else "warn", f"{name} ({'fetched' if fetched else 'not fetched'})", hint)


def _nbytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed as a package"
