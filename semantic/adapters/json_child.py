"""A module of ours in a process of its own: one JSON line in, one JSON line out."""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from semantic.domain.errors import ChildEndedError

_TAIL_LINES = 30
_CLOSE_SECONDS = 30.0


class JsonChild:
    """Starts ``python -m module arguments`` at once. Not for two threads at a time.

    ``environment`` is added to this process's. The child ends with its standard input, and so with this process. What
    it prints on standard error is kept for the message of :class:`~semantic.domain.errors.ChildEndedError`.
    """

    def __init__(
        self, module: str, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self._module = module
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.is_over = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the caller, who closes this
        )
        self._drain = threading.Thread(target=self._keep_tail, name=f"stderr of {module}", daemon=True)
        self._drain.start()

    def ask(self, **request: Any) -> Any:
        """Send a request and wait for the ``output`` of its answer. Raises ``ChildEndedError`` for an ``error``."""
        self.send(**request)
        return self.hear()

    def send(self, **request: Any) -> None:
        """Send a request."""
        if self.is_over:
            raise ChildEndedError(f"{self._module} was ended; start another one")
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except OSError as error:
            raise self._died() from error

    def hear(self) -> Any:
        """The next ``output``."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ChildEndedError(f"{self._module} refused: {answer['error']}")
        return answer["output"]

    def kill(self) -> list[Any]:
        """End it with SIGKILL. Returns the outputs that it had still written."""
        self._process.kill()
        left = list(self._left())
        self._finish()
        return left

    def close(self) -> None:
        """Let it end by closing its input; by force if it does not. Closing twice is a no-op."""
        if self.is_over:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(_CLOSE_SECONDS)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
        self._finish()

    def _left(self) -> Iterator[Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                yield json.loads(line).get("output")

    def _finish(self) -> None:
        self.is_over = True
        self._process.wait()
        self._drain.join(_CLOSE_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue

    def _died(self) -> ChildEndedError:
        self._finish()
        tail = "\n".join(self._tail) or "(it printed nothing)"
        code = self._process.returncode
        return ChildEndedError(f"{self._module} ended with exit code {code}. Its last output:\n{tail}")

    def _keep_tail(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                self._tail.append(line.rstrip("\n"))
