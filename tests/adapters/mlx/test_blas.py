"""OpenBLAS under MLX: each case in a process of its own, because it is loaded once per process."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from semantic.adapters.mlx import cores

ON_LINUX_X86 = sys.platform == "linux" and platform.machine() == "x86_64"
needs_openblas = pytest.mark.skipif(not ON_LINUX_X86, reason="OpenBLAS is loaded on Linux x86-64 only")


def run(code: str, **environment: str) -> str:
    """Standard output of a fresh interpreter."""
    keep = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**keep, **environment}
    )
    return done.stdout.strip()


ACTIVATE = "from semantic.adapters.mlx import blas; report = blas.activate({}); "
WHERE_SYMBOLS_COME_FROM = """
import ctypes
class Info(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p)] + [(other, ctypes.c_void_p) for other in ("base", "symbol", "at")]
found = Info()
process = ctypes.CDLL(None)
process.dladdr(ctypes.cast(process.cblas_sgemm, ctypes.c_void_p), ctypes.byref(found))
print(found.name.decode())
"""


@needs_openblas
def test_its_symbols_win_over_those_of_mlx() -> None:
    code = ACTIVATE.format("") + "import mlx.core; print(report.active)" + WHERE_SYMBOLS_COME_FROM
    active, library = run(code).splitlines()
    assert active == "True"
    assert "libopenblas" in library


@pytest.mark.mlx
def test_off_leaves_mlx_alone_and_mlx_still_computes() -> None:
    code = ACTIVATE.format("'off'") + (
        "import mlx.core as mx; a = mx.ones((8, 8)); "
        "print(report.active, report.reason, (a @ a)[0, 0].item(), 'openblas' in open('/proc/self/maps').read())"
    )
    if not sys.platform.startswith("linux"):
        code = code.replace("open('/proc/self/maps').read()", "''")
    assert run(code) == "False switched off 8.0 False"


@needs_openblas
def test_after_mlx_was_imported_it_is_too_late_and_the_report_says_so() -> None:
    code = "import mlx.core; " + ACTIVATE.format("") + "print(report.active, report.reason)"
    assert run(code).startswith("False too late: mlx.core was imported first")


@needs_openblas
def test_asking_for_it_too_late_is_an_error() -> None:
    code = (
        "import mlx.core\nfrom semantic.adapters.mlx import blas\n"
        "from semantic.domain.errors import BlasNotFoundError\n"
        "try: blas.activate('openblas')\nexcept BlasNotFoundError as error: print(error)"
    )
    assert "too late" in run(code)


@needs_openblas
def test_a_missing_package_is_named() -> None:
    code = "from semantic.adapters.mlx import blas\nblas._installed = lambda *_: None\nprint(blas.activate().reason)"
    assert run(code) == "the package cmeel-openblas is not installed: pip install cmeel-openblas"


@needs_openblas
def test_a_second_call_changes_nothing_but_the_threads() -> None:
    code = ACTIVATE.format("threads=1") + (
        "again = blas.activate(); more = blas.activate(threads=2); "
        "print(report.threads, again == report, more.threads, more.library == report.library)"
    )
    assert run(code) == "1 True 2 True"


@needs_openblas
def test_the_threads_of_the_environment_stand() -> None:
    assert run(ACTIVATE.format("") + "print(report.threads)", OPENBLAS_NUM_THREADS="1") == "1"


def test_an_unknown_mode_is_refused() -> None:
    from semantic.adapters.mlx import blas

    with pytest.raises(ValueError, match="auto, openblas, off"):
        blas.activate("mkl")


@pytest.mark.parametrize(
    ("text", "quota"), [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("?", None)]
)
def test_a_containers_cpu_quota_is_rounded_up_to_cores(tmp_path: Path, text: str, quota: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cores._cgroup_quota(tmp_path / "cpu.max") == quota
    assert cores._cgroup_quota(tmp_path / "absent") is None


IDLE_COST = """
import os, time
import mlx.core as mx
a = mx.ones((512, 512))
spent = []
for _ in range(5):
    mx.eval(a @ a)
    before = time.process_time()
    time.sleep(0.05)
    spent.append(time.process_time() - before)
print(min(spent) < 0.005, "OPENBLAS_THREAD_TIMEOUT" in os.environ)
"""


@needs_openblas
@pytest.mark.mlx
def test_its_threads_sleep_while_they_have_nothing_to_do() -> None:
    assert run(ACTIVATE.format("threads=2") + IDLE_COST) == "True False"


@needs_openblas
def test_a_spinning_time_that_the_user_has_set_stands() -> None:
    code = ACTIVATE.format("") + "import os; print(report.active, os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    assert run(code, OPENBLAS_THREAD_TIMEOUT="28") == "True 28"
