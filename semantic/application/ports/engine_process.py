"""An engine in a process of its own, which can be killed."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from attrs import frozen

from semantic.application.ports.engine import Prompt
from semantic.domain.value_objects.completion import Completion


class Change(StrEnum):
    """What is different about an engine: nothing, or one thing that its keys and values depend on.

    ``RELOADED`` is the same model brought in another way, so nothing that matters.
    """

    NONE = "none"
    RELOADED = "reloaded"
    WEIGHT = "one weight"
    TEMPLATE = "chat template"
    COMPUTE_DTYPE = "compute dtype"
    LAYOUT = "cache layout"
    LANE = "exactness lane"


@frozen
class Turn:
    """What is said to an agent."""

    agent: str
    message: str


@frozen
class Reply:
    """What an agent answered, and the token ids of its context then."""

    agent: str
    completion: Completion
    context: tuple[int, ...]

    @property
    def prompt(self) -> tuple[int, ...]:
        """The token ids that the turn fed."""
        return self.context[: len(self.context) - len(self.completion.token_ids)]


@frozen
class Standing:
    """Where an agent stands: its turns, and the token ids of its context."""

    agent: str
    turns: int
    context: tuple[int, ...]


class EngineProcess(Protocol):
    """An engine on a store, in another process. Raises ``ChildEndedError`` if that ended, or refused."""

    def generate(self, prompt: Prompt, *, max_tokens: int) -> Completion:
        """Run one prompt to its end. Times are measured in the process."""

    def make(self, agent: str, system: str) -> None:
        """A new agent with a system message."""

    def fork(self, agent: str, name: str) -> None:
        """Fork an agent."""

    def say(self, turns: Sequence[Turn], *, max_tokens: int) -> list[Reply]:
        """Say something to several agents at once, and wait for all of them."""

    def begin(self, turns: Sequence[Turn], *, max_tokens: int) -> None:
        """Say something and don't wait. All that can follow is :meth:`kill`."""

    def agents(self) -> list[Standing]:
        """Where the agents stand, by name."""

    def flush(self) -> None:
        """Return when all that was finished before is durable."""

    def loaded_blocks(self) -> int:
        """Blocks that were read from the store since the process began."""

    def kill(self, after_s: float = 0.0) -> None:
        """Wait so long, then end the process at once, whatever it is doing."""

    def close(self) -> None:
        """Close the engine and end the process. After :meth:`kill`, and a second time, a no-op."""


class EngineProcesses(Protocol):
    """Starts engine processes on the model of this composition."""

    def start(self, store: str, change: Change = Change.NONE) -> EngineProcess:
        """Start one on a place that the lab's stores gave. Its engine is open when this returns."""
