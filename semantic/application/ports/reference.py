"""The reference: what mlx_lm says, in a process where nothing of ours is bound."""

from types import TracebackType
from typing import Protocol, Self

from attrs import frozen

from semantic.application.ports.engine import Prompt


@frozen
class RankedPair:
    """The two best candidates at one position and the gap between their log-probabilities (nats, >= 0)."""

    first: int
    second: int
    gap: float


@frozen
class ReferenceOutput:
    """What ``mlx_lm.generate`` returned: its text, the ids behind it (no end-of-sequence token), timings.

    ``top2[i]`` belongs to the i-th *drawn* token, the final end-of-sequence token included when one was
    drawn; it is empty unless asked for. ``eos_token_ids`` are the ids that end a sequence of this model.
    ``ttft_s`` and ``total_s`` are seconds measured inside the reference process.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    top2: tuple[RankedPair, ...]
    ttft_s: float
    total_s: float
    eos_token_ids: frozenset[int] = frozenset()


class ReferenceGenerator(Protocol):
    """Greedy generation by the reference implementation. A context manager: leaving it ends the process."""

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        prefill_step_size: int | None = None,
        want_top2: bool = False,
    ) -> ReferenceOutput:
        """Run the reference once. ``None`` leaves mlx_lm's own prefill step size.

        ``want_top2`` costs time after each token: leave it off when timing. Raises ``ReferenceRunError``.
        """

    def close(self) -> None:
        """End the reference process. Closing twice is a no-op."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ReferenceFactory(Protocol):
    """Starts references: each call one process, with the same weights as the engines of this composition."""

    def __call__(self) -> ReferenceGenerator:
        """Start one. May return before its model is loaded."""
