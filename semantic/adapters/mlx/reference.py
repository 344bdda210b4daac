"""The reference generator: mlx_lm in a process of its own, where nothing of the engine is bound."""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from semantic.application.ports.engine import Prompt
from semantic.application.ports.reference import RankedPair, ReferenceOutput
from semantic.domain.errors import ReferenceRunError

_TAIL_LINES = 30
_CLOSE_SECONDS = 5.0


class SubprocessReference:
    """Starts the worker at once; the model loads while the caller does something else.

    ``environment`` is added to this process's: the ``SEMANTIC_...`` settings that the engine was opened with, so
    that both load the same weights in the same dtype. The worker ends with :meth:`close`, and with this process.
    """

    def __init__(self, model: str, environment: Mapping[str, str] | None = None) -> None:
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._eos_token_ids: frozenset[int] | None = None
        self._closed = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "semantic.adapters.mlx.reference_worker", "--model", model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the caller, who closes this
        )
        self._drain = threading.Thread(target=self._keep_tail, name="semantic-reference-stderr", daemon=True)
        self._drain.start()

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        prefill_step_size: int | None = None,
        want_top2: bool = False,
    ) -> ReferenceOutput:
        """Run mlx_lm once. Not for two threads at a time."""
        if self._closed:
            raise ReferenceRunError("the reference is closed; start another one")
        if self._eos_token_ids is None:
            self._eos_token_ids = frozenset(self._read()["eos_token_ids"])
        self._write(
            {
                "prompt": prompt if isinstance(prompt, str) else list(prompt),
                "max_tokens": max_tokens,
                "prefill_step_size": prefill_step_size,
                "want_top2": want_top2,
            }
        )
        answer = self._read()
        if "error" in answer:
            raise ReferenceRunError(f"mlx_lm refused the run: {answer['error']}")
        output = answer["output"]
        return ReferenceOutput(
            text=output["text"],
            token_ids=tuple(output["token_ids"]),
            finish_reason=output["finish_reason"],
            prompt_tokens=output["prompt_tokens"],
            top2=tuple(RankedPair(int(first), int(second), gap) for first, second, gap in output["top2"]),
            ttft_s=output["ttft_s"],
            total_s=output["total_s"],
            eos_token_ids=self._eos_token_ids,
        )

    def close(self) -> None:
        """End the worker, by force if it does not end with its input. Closing twice is a no-op."""
        if self._closed:
            return
        self._closed = True
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(_CLOSE_SECONDS)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._drain.join(_CLOSE_SECONDS)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except OSError as error:
            raise self._died() from error

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> ReferenceRunError:
        code = self._process.wait()
        self._drain.join(_CLOSE_SECONDS)
        self._closed = True
        tail = "\n".join(self._tail) or "(it printed nothing)"
        return ReferenceRunError(f"the reference process ended with exit code {code}. Its last output:\n{tail}")

    def _keep_tail(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                self._tail.append(line.rstrip("\n"))
