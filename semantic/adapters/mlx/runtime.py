"""Makes MLX ready for use in this process: BLAS first, then device, compute dtype and the compiler
question.
"""

import atexit
import shutil
from collections.abc import Callable
from functools import cache
from importlib import metadata
from threading import Lock
from typing import Any

from attrs import frozen

from semantic.adapters.mlx import blas as blas_loader
from semantic.adapters.mlx.blas import BlasReport
from semantic.application.ports.telemetry import Telemetry

COMPUTE_DTYPES = ("auto", "model", "float32", "float16", "bfloat16")


@frozen
class Runtime:
    """The facts of this process.

    ``device``: ``"cpu"``, ``"metal"`` or ``"cuda"``. ``compute_dtype``: a dtype name, or ``"model"`` for
    whatever the model was saved in. ``compiles``: whether ``mx.compile`` fuses kernels here; without a C++
    compiler on CPU it does not, which costs a few percent and changes nothing else. ``compiler_note`` says
    why not.
    """

    device: str
    device_name: str
    compute_dtype: str
    compiles: bool
    compiler_note: str
    blas: BlasReport
    mlx_version: str
    mlx_lm_version: str

    @property
    def dequantises(self) -> bool:
        """Whether quantised weights are expanded once at load: on CPU, where 4-bit matmuls are far slower."""
        return self.device == "cpu" and self.compute_dtype != "model"


Prepare = Callable[[], Runtime]
"""What model sources take: ``prepare`` with its arguments bound by the container."""

_lock = Lock()
_compiler: tuple[bool, str] | None = None


def prepare(
    *,
    blas: str = "auto",
    blas_threads: int | None = None,
    compute_dtype: str = "auto",
    telemetry: Telemetry | None = None,
) -> Runtime:
    """Load OpenBLAS where it helps, import MLX, decide device and dtype. Cheap to call again.

    ``compute_dtype="auto"``: float32 on CPU (float16 is not computed natively on x86: 0.3 tokens per second),
    the model's own elsewhere. Raises ``BlasNotFoundError`` for ``blas="openblas"`` that cannot be had.
    """
    if compute_dtype not in COMPUTE_DTYPES:
        raise ValueError(f"compute_dtype must be one of {', '.join(COMPUTE_DTYPES)}, not {compute_dtype!r}")
    report = blas_loader.activate(blas, blas_threads)
    import mlx.core as mx

    _clear_streams_at_exit(mx)
    device = _device(mx)
    compiles, note = _compile_once(mx, device, telemetry)
    if compute_dtype == "auto":
        compute_dtype = "float32" if device == "cpu" else "model"
    return Runtime(
        device=device,
        device_name=_device_name(mx),
        compute_dtype=compute_dtype,
        compiles=compiles,
        compiler_note=note,
        blas=report,
        mlx_version=metadata.version("mlx"),
        mlx_lm_version=metadata.version("mlx-lm"),
    )


@cache
def _clear_streams_at_exit(mx: Any) -> None:
    """MLX asks every thread, the main one included, to clear its streams before it ends; else the process aborts."""
    atexit.register(mx.clear_streams)


def _device(mx: Any) -> str:
    if mx.default_device().type != mx.DeviceType.gpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def _device_name(mx: Any) -> str:
    facts = mx.device_info(mx.default_device())
    return str(facts.get("device_name") or facts.get("architecture") or "unknown")


def _compile_once(mx: Any, device: str, telemetry: Telemetry | None) -> tuple[bool, str]:
    global _compiler
    with _lock:
        if _compiler is None:
            _compiler = _probe_compiler(mx) if device == "cpu" else (True, "")
            if not _compiler[0] and telemetry is not None:
                telemetry.warning("mlx.compile.off", reason=_compiler[1])
        return _compiler


def _probe_compiler(mx: Any) -> tuple[bool, str]:
    """On CPU ``mx.compile`` runs ``g++`` at run time (cached in the temporary folder). Try it on a tiny
    function.
    """
    if shutil.which("g++") is None:
        reason = "g++ was not found, so MLX fuses no kernels; install it (Debian: apt install g++)"
    else:
        try:
            fused = mx.compile(lambda a: mx.sigmoid(a) * a)
            mx.eval(fused(mx.ones(2)))
        except Exception as exc:  # noqa: BLE001 - whatever the compiler says, we can go on without it
            reason = f"g++ is there but failed, so MLX fuses no kernels: {str(exc).splitlines()[0][:200]}"
        else:
            return True, ""
    mx.disable_compile()
    return False, reason
