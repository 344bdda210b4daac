"""One reference process for a whole session of experiments, asked only once for the same thing."""

from collections.abc import Mapping, Sequence
from typing import Any

from semantic.application.ports.engine import Prompt
from semantic.application.ports.reference import (
    ReferenceFactory,
    ReferenceGenerator,
    ReferenceOutput,
)


class ReferenceSession:
    """Starts the reference when it is first needed, and remembers greedy outputs: they are what they are."""

    def __init__(self, factory: ReferenceFactory) -> None:
        self._factory = factory
        self._reference: ReferenceGenerator | None = None
        self._remembered: dict[tuple[Any, int], ReferenceOutput] = {}

    def expected(self, prompt: Prompt, *, max_tokens: int) -> ReferenceOutput:
        """What mlx_lm's defaults say to this prompt, with the top two of each token. Remembered."""
        key = (_frozen(prompt), max_tokens)
        if key not in self._remembered:
            self._remembered[key] = self._started().generate(prompt, max_tokens=max_tokens, want_top2=True)
        return self._remembered[key]

    def timed(self, prompt: Prompt, *, max_tokens: int) -> ReferenceOutput:
        """One run of mlx_lm's defaults for its times: always run, nothing else computed."""
        return self._started().generate(prompt, max_tokens=max_tokens)

    def after(self, token_ids: Sequence[int]) -> ReferenceOutput:
        """One token after exactly these ids, with its two candidates."""
        return self._started().generate(list(token_ids), max_tokens=1, want_top2=True)

    def close(self) -> None:
        """End the process, if one was started. What is remembered stays."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None

    def _started(self) -> ReferenceGenerator:
        if self._reference is None:
            self._reference = self._factory()
        return self._reference


def _frozen(prompt: Prompt) -> Any:
    if isinstance(prompt, str):
        return prompt
    return tuple(tuple(sorted(part.items())) if isinstance(part, Mapping) else part for part in prompt)
