"""The reference generator: mlx_lm in a process of its own, where nothing of the engine is bound."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from semantic.adapters.json_child import JsonChild
from semantic.application.ports.engine import Prompt
from semantic.application.ports.reference import RankedPair, ReferenceOutput
from semantic.domain.errors import ChildEndedError, ReferenceRunError


class SubprocessReference:
    """Starts the worker at once; the model loads while the caller does something else.

    ``environment`` is added to this process's: the ``SEMANTIC_...`` settings that the engine was opened with, so
    that both load the same weights in the same dtype. The worker ends with :meth:`close`, and with this process.
    """

    def __init__(self, model: str, environment: Mapping[str, str] | None = None) -> None:
        self._eos_token_ids: frozenset[int] | None = None
        self._child = JsonChild("semantic.adapters.mlx.reference_worker", ["--model", model], environment)

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        prefill_step_size: int | None = None,
        want_top2: bool = False,
    ) -> ReferenceOutput:
        """Run mlx_lm once. Not for two threads at a time."""
        if self._child.is_over:
            raise ReferenceRunError("the reference is closed; start another one")
        with _as_our_error():
            if self._eos_token_ids is None:
                self._eos_token_ids = frozenset(self._child.hear()["eos_token_ids"])
            output = self._child.ask(
                prompt=prompt if isinstance(prompt, str) else list(prompt),
                max_tokens=max_tokens,
                prefill_step_size=prefill_step_size,
                want_top2=want_top2,
            )
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
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _as_our_error() -> Iterator[None]:
    try:
        yield
    except ChildEndedError as error:
        raise ReferenceRunError(f"the reference (mlx_lm) failed: {error}") from error
