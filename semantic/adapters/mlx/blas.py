"""OpenBLAS in place of the slow reference BLAS that MLX's CPU wheel links (Linux, x86-64).

Loaded with ``RTLD_GLOBAL`` *before* ``mlx.core`` is imported, its symbols win. On the default model in
float32 that is 220-390 prompt tokens per second instead of 9-10. Elsewhere (macOS, ARM) MLX brings a fast
BLAS: nothing is done.

The wheel ``cmeel-openblas`` needs ``libgfortran.so.5``, which a bare machine lacks. ``mlx-cpu`` bundles the
same library under a private name; :func:`_offer_gfortran` offers a copy of it, in memory, under the public
one.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from threading import Lock

from attrs import evolve, frozen

from semantic.adapters.mlx.cores import usable_cores
from semantic.domain.errors import BlasNotFoundError

MODES = ("auto", "openblas", "off")
_OPENBLAS = "libopenblas.so.0"
_GFORTRAN = b"libgfortran.so.5"
_TIMEOUT = "OPENBLAS_THREAD_TIMEOUT"
_IDLE_SPIN = "4"
"""Idle OpenBLAS threads spin for 2^n cycles before they sleep; its default of 26 takes a core from MLX and from our
attention between two matmuls. With 4, the least, a decode step takes 34 ms instead of 43 on two cores, and two
processes that decode on the same two cores take 0.1 s for a token each instead of 1 s (ADR 0006)."""


@frozen
class BlasReport:
    """What happened. ``active`` is False with the ``reason`` in words, or True with what OpenBLAS says of
    itself.

    ``tried`` lists every attempt, for ``semantic doctor``. ``threads`` is OpenBLAS's own count.
    """

    active: bool
    reason: str
    library: Path | None = None
    config: str = ""
    core_name: str = ""
    threads: int | None = None
    tried: tuple[str, ...] = ()


_lock = Lock()
_library: ctypes.CDLL | None = None
_report: BlasReport | None = None


def activate(mode: str = "auto", threads: int | None = None) -> BlasReport:
    """Load OpenBLAS before MLX is imported, once per process; later calls only set ``threads`` when given.

    ``auto`` loads it where it helps and reports why not elsewhere; ``openblas`` raises ``BlasNotFoundError``
    when it cannot; ``off`` leaves MLX's own. ``threads`` None: ``OPENBLAS_NUM_THREADS`` where set, else the
    usable cores.
    """
    global _report
    if mode not in MODES:
        raise ValueError(f"blas must be one of {', '.join(MODES)}, not {mode!r}")
    with _lock:
        if _library is None:
            _report = _inactive(mode) or _load()
        assert _report is not None
        if mode == "openblas" and not _report.active:
            raise BlasNotFoundError(_explain(_report))
        if _library is not None:
            _report = _with_threads(_library, _report, threads)
        return _report


def _inactive(mode: str) -> BlasReport | None:
    if mode == "off":
        return BlasReport(False, "switched off")
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return BlasReport(False, f"not needed on {sys.platform} {platform.machine()}: MLX's own BLAS is fast there")
    if "mlx.core" in sys.modules:
        return BlasReport(
            False,
            "too late: mlx.core was imported first; open the engine before importing mlx, "
            "or call semantic.adapters.mlx.blas.activate() at the top of the program",
        )
    return None


def _load() -> BlasReport:
    global _library
    tried: list[str] = []
    path = _installed("cmeel-openblas", _OPENBLAS)
    if path is None:
        return BlasReport(False, "the package cmeel-openblas is not installed: pip install cmeel-openblas")
    for attempt, gfortran in (
        ("as it is", None),
        ("with the libgfortran that mlx-cpu bundles", _offer_gfortran),
    ):
        try:
            if gfortran is not None:
                gfortran()
            with _idle_threads_sleep():
                _library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as exc:
            tried.append(f"{attempt}: {exc}")
            continue
        tried.append(f"{attempt}: loaded")
        return BlasReport(
            True,
            "loaded before MLX",
            library=path,
            config=_text(_library, "openblas_get_config"),
            core_name=_text(_library, "openblas_get_corename"),
            tried=tuple(tried),
        )
    return BlasReport(False, "OpenBLAS could not be loaded", library=path, tried=tuple(tried))


@contextmanager
def _idle_threads_sleep() -> Iterator[None]:
    """OpenBLAS reads this once, while it is loaded. What the user has set stands; numpy's OpenBLAS keeps its own."""
    if _TIMEOUT in os.environ:
        yield
        return
    os.environ[_TIMEOUT] = _IDLE_SPIN
    try:
        yield
    finally:
        del os.environ[_TIMEOUT]


def _offer_gfortran() -> None:
    """Load the libgfortran that mlx-cpu bundles under the name that OpenBLAS asks for."""
    bundled = _installed("mlx-cpu", "libgfortran-")
    if bundled is None:
        raise OSError("mlx-cpu bundles no libgfortran; install the system's (Debian: apt install libgfortran5)")
    quadmath = _installed("mlx-cpu", "libquadmath-")
    if quadmath is not None:
        ctypes.CDLL(str(quadmath))
    private = bundled.name.encode() + b"\0"
    image = bundled.read_bytes()
    if image.count(private) != 1 or len(private) <= len(_GFORTRAN):
        raise OSError(f"{bundled.name} does not carry its own name once, so it cannot be offered under another")
    descriptor = os.memfd_create(_GFORTRAN.decode())  # a file in memory: nothing is written to disk
    try:
        with open(descriptor, "wb", closefd=False) as copy:
            copy.write(image.replace(private, _GFORTRAN.ljust(len(private), b"\0")))
        ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _installed(distribution: str, file_prefix: str) -> Path | None:
    """The installed file of a distribution whose name starts with ``file_prefix``, wherever it was
    installed.
    """
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate()))
        if file.name.startswith(file_prefix) and path.exists():
            return path
    return None


def _text(library: ctypes.CDLL, function: str) -> str:
    call = getattr(library, function)
    call.restype = ctypes.c_char_p
    value: bytes | None = call()
    return (value or b"").decode(errors="replace")


def _with_threads(library: ctypes.CDLL, report: BlasReport, threads: int | None) -> BlasReport:
    if threads is None and report.threads is None and "OPENBLAS_NUM_THREADS" not in os.environ:
        threads = usable_cores()
    if threads is not None:
        library.openblas_set_num_threads(ctypes.c_int(threads))
    return evolve(report, threads=int(library.openblas_get_num_threads()))


def _explain(report: BlasReport) -> str:
    attempts = "".join(f"; {attempt}" for attempt in report.tried)
    return f"OpenBLAS was asked for: {report.reason}{attempts}. SEMANTIC_BLAS=auto goes on without it"
