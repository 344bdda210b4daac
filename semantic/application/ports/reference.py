"""The reference: what mlx_lm says, in a process where nothing of ours is bound."""

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen


@frozen
class RankedPair:
    """The two best candidates at one position and the gap between their log-probabilities (nats, >= 0)."""

    first: int
    second: int
    gap: float


@frozen
class ReferenceOutput:
    """What ``mlx_lm.generate`` returned: its text, the ids behind it (no end-of-sequence token), and timings.

    ``top2[i]`` belongs to the i-th *drawn* token, the final end-of-sequence token included when one was drawn.
    ``ttft_s`` and ``total_s`` are seconds measured inside the reference process.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    top2: tuple[RankedPair, ...]
    ttft_s: float
    total_s: float


class ReferenceGenerator(Protocol):
    """Greedy generation by the reference implementation. A context manager: leaving it ends the process."""

    def generate(
        self, prompt: "str | Sequence[int]", *, max_tokens: int, prefill_step_size: int | None = None
    ) -> ReferenceOutput:
        """Run the reference once. ``None`` leaves mlx_lm's own prefill step size. Raises ``ReferenceRunError``."""

    def close(self) -> None:
        """End the reference process. Closing twice is a no-op."""
