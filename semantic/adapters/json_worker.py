"""The child's side of :class:`~semantic.adapters.json_child.JsonChild`."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO


def answers_on_stdout() -> TextIO:
    """What was standard output, for answers alone: everything that a library prints there goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def tell(answers: TextIO, output: Any) -> None:
    """Write one answer."""
    print(json.dumps({"output": output}), file=answers, flush=True)


def serve(do: Callable[..., Any], requests: TextIO, answers: TextIO) -> None:
    """Answer each line of ``requests`` with ``{"output": ...}`` or ``{"error": ...}``, until they end."""
    for line in requests:
        try:
            tell(answers, do(**json.loads(line)))
        except Exception as error:  # noqa: BLE001 - the error is the answer; the process goes on
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
