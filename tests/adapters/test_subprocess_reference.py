"""The reference process: what becomes of it, and that it says what mlx_lm.generate says."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.json_worker import serve
from semantic.adapters.mlx.reference import SubprocessReference
from semantic.adapters.mlx.reference_worker import Reference
from semantic.domain.errors import ReferenceRunError

WORKER = """
import json, os, sys
print(json.dumps({"output": {"eos_token_ids": [0]}}), flush=True)
for line in sys.stdin:
    print("about to fail", file=sys.stderr, flush=True)
    os._exit(3)
"""


@pytest.fixture
def doomed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SubprocessReference:
    """A reference whose worker dies of its first request."""
    script = tmp_path / "worker"
    script.write_text(f"#!{sys.executable}\n{WORKER}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return SubprocessReference("any")


def test_the_death_of_the_worker_is_an_error_with_the_last_that_it_said(doomed: SubprocessReference) -> None:
    with pytest.raises(ReferenceRunError, match=r"(?s)exit code 3.*about to fail"):
        doomed.generate("Hello", max_tokens=2)
    with pytest.raises(ReferenceRunError):
        doomed.generate("Hello", max_tokens=2)
    doomed.close()


class Shouting(Reference):
    """Stands for a loaded model."""

    def __init__(self) -> None:
        pass

    def generate(self, prompt: Any, **how: Any) -> dict[str, Any]:  # type: ignore[override]
        if not prompt:
            raise ValueError("nothing to do")
        return {"text": prompt.upper(), **how}


def test_the_worker_answers_each_line_with_a_line_and_survives_errors() -> None:
    requests = [{"prompt": "a", "max_tokens": 1}, {"prompt": "", "max_tokens": 1}, {"prompt": "b", "max_tokens": 1}]
    answers = io.StringIO()
    serve(Shouting().generate, io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), answers)
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [
        {"output": {"text": "A", "max_tokens": 1}},
        {"error": "ValueError: nothing to do"},
        {"output": {"text": "B", "max_tokens": 1}},
    ]


@pytest.mark.model
def test_the_text_is_what_mlx_lm_generate_returns() -> None:
    import semantic

    model, tokenizer = semantic.load("smollm2-135m")
    from mlx_lm import generate

    prompts = ["The quick brown fox", "日本の首都は東京です。東京の人口は"]
    with SubprocessReference("smollm2-135m") as reference:
        for prompt in prompts:
            output = reference.generate(prompt, max_tokens=8)
            assert output.text == generate(model, tokenizer, prompt, max_tokens=8)


@pytest.mark.model
def test_an_unknown_model_is_reported_with_the_error_that_loading_it_gave() -> None:
    with SubprocessReference("no-such-model") as reference, pytest.raises(ReferenceRunError, match="no-such-model"):
        reference.generate("Hello", max_tokens=2)
