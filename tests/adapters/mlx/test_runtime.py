"""What this process computes on and in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from semantic.adapters.mlx import runtime
from semantic.adapters.telemetry import NullTelemetry

pytestmark = pytest.mark.mlx


def test_on_cpu_auto_is_float32() -> None:
    found = runtime.prepare()
    assert (found.device, found.compute_dtype) == ("cpu", "float32") or found.compute_dtype == "model"
    assert runtime.prepare(compute_dtype="bfloat16").compute_dtype == "bfloat16"


def test_quantised_weights_are_expanded_on_cpu_unless_the_models_own_dtype_is_asked_for() -> None:
    if runtime.prepare().device != "cpu":
        pytest.skip("a GPU is the device")
    assert runtime.prepare().dequantises
    assert not runtime.prepare(compute_dtype="model").dequantises


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="auto, model, float32"):
        runtime.prepare(compute_dtype="int8")


def run(code: str, path: Path, tmp_path: Path) -> str:
    environment = {**os.environ, "PATH": str(path), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


REPORT = """
from semantic.adapters.mlx.runtime import prepare
found = prepare()
import mlx.core as mx
fused = mx.compile(lambda a: mx.exp(a) * a + a)
print(found.compiles, fused(mx.zeros(1)).item(), found.compiler_note)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the compiler is asked for on Linux CPUs")
def test_without_a_compiler_compiled_functions_still_compute(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    said = run(REPORT, tmp_path / "bin", tmp_path)
    assert said.startswith("False 0.0 g++ was not found")


@pytest.mark.skipif(sys.platform != "linux", reason="the compiler is asked for on Linux CPUs")
def test_with_a_compiler_that_fails_compiled_functions_still_compute(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "g++"
    broken.write_text(f'#!{sys.executable}\nimport sys\nsys.exit("--version" not in sys.argv)\n')
    broken.chmod(0o755)
    said = run(REPORT, tmp_path / "bin", tmp_path)
    assert said.startswith("False 0.0 g++ is there but failed")


def test_a_missing_compiler_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recorder(NullTelemetry):
        names: list[str] = []  # noqa: RUF012

        def warning(self, name: str, **facts: object) -> None:
            self.names.append(name)

    if runtime.prepare().device != "cpu":
        pytest.skip("a GPU is the device")
    monkeypatch.setattr(runtime, "_compiler", None)
    monkeypatch.setattr(runtime, "_probe_compiler", lambda mx: (False, "none"))
    for _ in range(2):
        assert runtime.prepare(telemetry=Recorder()).compiler_note == "none"
    assert Recorder.names == ["mlx.compile.off"]
