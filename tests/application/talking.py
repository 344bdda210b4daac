"""Agents on fakes: engines on one store, what is left of a text, and models and templates that do what a test needs."""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from driving import cold

from semantic.adapters.fakes import (
    FakeModel,
    FakeTokenizer,
    MemoryStore,
    RecordingTelemetry,
    fake_engine,
    fake_tier,
)
from semantic.adapters.fakes.archive import MemoryArchive
from semantic.application.engine import Engine
from semantic.application.make_cache import cache_context
from semantic.application.ports.tokenizer import NO_OPTIONS
from semantic.domain.value_objects import ChatOptions, Completion, Reuse

MODELS: dict[str, Callable[[], FakeModel]] = {
    "pages": FakeModel,
    "states": lambda: FakeModel(layout="contiguous", reuse=Reuse.AT_STATES),
}
"""One whose context may be taken up at any token, and one that needs a kept state."""


@define
class Desk:
    """Engines one after the other on one store, as processes would open them; ``model`` is the latest one's."""

    make: Callable[[], FakeModel] = FakeModel
    store: MemoryStore = field(factory=MemoryStore)
    archive: MemoryArchive = field(factory=MemoryArchive)
    telemetry: RecordingTelemetry = field(factory=RecordingTelemetry)
    model: FakeModel = field(factory=FakeModel)

    def open(self, *, has_store: bool = True, **parts: Any) -> Engine:
        self.store.reopen()
        self.model = parts.pop("model", None) or self.make()
        tier = fake_tier(self.store, telemetry=self.telemetry) if has_store else None
        given = {"archive": self.archive, "telemetry": self.telemetry, **parts}
        return fake_engine(model=self.model, tier=tier, **given)

    def in_memory(self) -> list[str]:
        """The texts of the blocks in memory."""
        blocks = self.model.memory.blocks.values()
        return sorted(FakeTokenizer().decode(block.held(block.rows)) for block in blocks)

    def in_store(self) -> list[str]:
        """The texts of the blocks in the store, and of its agents."""
        context = cache_context(self.model.profile).digest
        blocks = [_unpacked(block.tokens) for block in self.store.blocks(context)]
        agents = [entry.content for agent in self.store.agents() for entry in agent.record.history]
        return sorted(blocks + agents)

    def has(self, text: str) -> bool:
        """Whether the text, which must fit one block, is anywhere."""
        return any(text in found for found in self.in_memory() + self.in_store())


class Forgetful(FakeTokenizer):
    """Its template leaves out what earlier replies thought: all up to the last space."""

    def encode_chat(self, messages: Sequence[Any], options: ChatOptions = NO_OPTIONS) -> list[int]:
        return super().encode_chat([self._without_thoughts(message) for message in messages], options)

    def _without_thoughts(self, message: Any) -> Any:
        if message["role"] != "assistant":
            return message
        return {"role": "assistant", "content": message["content"].rpartition(" ")[2]}


def chat_prompt(*messages: tuple[str, str], tokenizer: FakeTokenizer | None = None) -> list[int]:
    """The token ids of (role, content) pairs, ready for a reply."""
    tokenizer = tokenizer or FakeTokenizer()
    return tokenizer.encode_chat([{"role": role, "content": content} for role, content in messages])


def is_cold(done: Completion, prompt: Sequence[int]) -> bool:
    """Whether this is what the model says to this prompt without any cache."""
    return done.token_ids == cold(prompt, len(done.token_ids))


def says(text: str, *, end: bool = True) -> Callable[[Sequence[int]], int]:
    """A next-token rule for prompts in ASCII: after each one it says ``text``, and then ends."""
    reply = [*FakeTokenizer().encode(text), *([0] if end else [])]
    marker = FakeTokenizer().encode("<assistant>")

    def choose(token_ids: Sequence[int]) -> int:
        starts = [i for i in range(len(token_ids)) if list(token_ids[i : i + len(marker)]) == marker]
        said = len(token_ids) - (starts[-1] + len(marker))
        return reply[said]

    return choose


def _unpacked(tokens: bytes) -> str:
    return FakeTokenizer().decode([int.from_bytes(tokens[i : i + 4], "little") for i in range(0, len(tokens), 4)])
