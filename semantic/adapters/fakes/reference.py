"""A reference that agrees with :class:`~semantic.adapters.fakes.model.FakeModel`: the same rule, no batching."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, cast

from semantic.adapters.fakes.model import fake_next_token
from semantic.adapters.fakes.tokenizer import END, FakeTokenizer
from semantic.application.ports.engine import Prompt
from semantic.application.ports.reference import RankedPair, ReferenceOutput
from semantic.application.ports.tokenizer import ChatMessage
from semantic.domain.errors import ReferenceRunError


class FakeReference:
    """``choose`` replaces the next-token rule, as in FakeModel. ``runs`` counts generations.

    ``second`` and ``gap`` are what it says of the second candidate at every position.
    """

    def __init__(
        self,
        *,
        choose: Callable[[Sequence[int]], int] = fake_next_token,
        second: Callable[[Sequence[int]], int] | None = None,
        gap: float = 1.0,
        seconds_per_token: float = 0.01,
    ) -> None:
        self._choose, self._gap, self._seconds_per_token = choose, gap, seconds_per_token
        self._second = second or (lambda token_ids: choose(token_ids) % 256 + 1)
        self._tokenizer = FakeTokenizer()
        self.runs = 0
        self.is_closed = False

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        prefill_step_size: int | None = None,
        want_top2: bool = False,
    ) -> ReferenceOutput:
        """Draw tokens by the rule until the end token or ``max_tokens``."""
        if self.is_closed:
            raise ReferenceRunError("the reference is closed; start another one")
        token_ids = self._encode(prompt)
        if not token_ids:
            raise ReferenceRunError("the prompt is empty")
        self.runs += 1
        drawn, top2 = list(token_ids), []
        while len(drawn) < len(token_ids) + max_tokens and (len(drawn) == len(token_ids) or drawn[-1] != END):
            top2.append(RankedPair(self._choose(drawn), self._second(drawn), self._gap))
            drawn.append(top2[-1].first)
        stopped = drawn[-1] == END
        new = drawn[len(token_ids) : -1] if stopped else drawn[len(token_ids) :]
        return ReferenceOutput(
            text=self._tokenizer.decode(new),
            token_ids=tuple(new),
            finish_reason="stop" if stopped else "length",
            prompt_tokens=len(token_ids),
            top2=tuple(top2) if want_top2 else (),
            ttft_s=self._seconds_per_token,
            total_s=self._seconds_per_token * len(top2),
            eos_token_ids=self._tokenizer.eos_token_ids,
        )

    def close(self) -> None:
        """Refuse further runs."""
        self.is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return self._tokenizer.encode(prompt)
        if prompt and isinstance(prompt[0], Mapping):
            return self._tokenizer.encode_chat(cast(Sequence[ChatMessage], prompt))
        return list(cast(Sequence[int], prompt))
