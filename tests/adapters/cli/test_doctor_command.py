"""``semantic doctor`` says what is wrong and what to do about it."""

import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from semantic.adapters import doctor
from semantic.adapters.mlx.blas import BlasReport
from semantic.adapters.mlx.runtime import Runtime
from semantic.domain.errors import BlasNotFoundError

ON_CPU = Runtime(
    "cpu",
    "test",
    "float32",
    True,
    "",
    BlasReport(True, "loaded", Path("/x"), "OpenBLAS 0.3", "", 1),
    "0.32.4",
    "0.32.2",
)


def findings(outcome: Any) -> dict[str, Any]:
    return {finding["name"]: finding for finding in outcome.json["findings"]}


def test_a_healthy_installation_is_code_0(cli: Any) -> None:
    outcome = cli("doctor", "--json")
    assert outcome.code == 0
    assert outcome.json["healthy"] is True
    assert findings(outcome)["device"]["value"] == "metal (test chip)"
    assert "ok   device:        metal (test chip)\n" in cli("doctor").out


def test_mlx_that_cannot_be_imported_is_a_failure_with_a_hint(cli: Any) -> None:
    outcome = cli.on(ImportError("libmlx.so: cannot open"))("doctor")
    assert outcome.code == 1
    assert "FAIL mlx:           ImportError: libmlx.so: cannot open" in outcome.out
    assert "pip install --force-reinstall mlx mlx-lm" in outcome.out


def test_a_blas_that_was_demanded_and_is_missing_is_a_failure(cli: Any) -> None:
    outcome = cli.on(BlasNotFoundError("not there"))("doctor", "--json")
    assert (outcome.code, findings(outcome)["mlx"]["state"]) == (1, "fail")


@pytest.mark.parametrize(
    ("changes", "name", "hint"),
    [
        ({"compute_dtype": "float16"}, "compute dtype", "unset SEMANTIC_COMPUTE_DTYPE"),
        ({"compiles": False, "compiler_note": "install g++"}, "compiler", "install g++"),
        ({"mlx_version": "0.99.0"}, "mlx", "pip install 'mlx==0.32.*'"),
        ({"blas": attrs.evolve(ON_CPU.blas, threads=999)}, "blas threads", "SEMANTIC_BLAS_THREADS"),
    ],
)
def test_what_is_slow_or_untested_is_a_warning_with_a_hint(
    cli: Any, changes: dict[str, Any], name: str, hint: str
) -> None:
    outcome = cli.on(attrs.evolve(ON_CPU, **changes))("doctor", "--json")
    assert outcome.code == 0
    assert findings(outcome)[name]["state"] == "warn"
    assert hint in findings(outcome)[name]["hint"]


def test_a_slow_blas_is_a_warning_where_it_matters(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    outcome = cli.on(attrs.evolve(ON_CPU, blas=BlasReport(False, "switched off")))("doctor", "--json")
    assert findings(outcome)["blas"]["state"] == "warn"
    assert "switched off" in findings(outcome)["blas"]["hint"]


def test_a_model_that_is_not_fetched_is_a_warning_and_an_unknown_one_a_failure(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMANTIC_MODEL", "elsewhere")
    assert "semantic model fetch elsewhere" in findings(cli("doctor", "--json"))["model"]["hint"]
    monkeypatch.setenv("SEMANTIC_MODEL", "elswhere")
    assert (cli("doctor").code, findings(cli("doctor", "--json"))["model"]["state"]) == (1, "fail")


def test_the_model_cache_shows_what_it_holds(cli: Any, tmp_path: Path) -> None:
    value = findings(cli("doctor", "--json"))["model cache"]["value"]
    assert value == f"{tmp_path}/models (here 0 MB)"
