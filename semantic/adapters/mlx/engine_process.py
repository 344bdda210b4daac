"""Engines in child processes."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from semantic.adapters.json_child import JsonChild
from semantic.application.ports.engine import Prompt
from semantic.application.ports.engine_process import Change, Reply, Standing, Turn
from semantic.domain.value_objects import Completion, FinishReason, Timings, Usage


class ChildEngines:
    """Fulfils the port of engine processes. Settings come to the children through the environment and the files.

    ``environment`` is added to this process's: the ``SEMANTIC_...`` settings that engines here were opened with.
    """

    def __init__(self, model: str, environment: Mapping[str, str] | None = None) -> None:
        self._model, self._environment = model, environment

    def start(self, store: str, change: Change = Change.NONE) -> "ChildEngine":
        """Loads the model, which takes a while."""
        return ChildEngine(self._model, store, change, self._environment)


class ChildEngine:
    """One process with an engine. Raises ``ChildEndedError`` if it does not come up."""

    def __init__(self, model: str, store: str, change: Change, environment: Mapping[str, str] | None = None) -> None:
        self._child = JsonChild(
            "semantic.adapters.mlx.engine_worker",
            ["--model", model, "--store", store, "--change", change.value],
            environment,
        )
        self._child.hear()

    def generate(self, prompt: Prompt, *, max_tokens: int) -> Completion:
        """One prompt."""
        what = prompt if isinstance(prompt, str) else list(prompt)
        return _completion(self._child.ask(do="generate", prompt=what, max_tokens=max_tokens))

    def make(self, agent: str, system: str) -> None:
        """A new agent."""
        self._child.ask(do="make", agent=agent, system=system)

    def fork(self, agent: str, name: str) -> None:
        """Another one."""
        self._child.ask(do="fork", agent=agent, name=name)

    def say(self, turns: Sequence[Turn], *, max_tokens: int) -> list[Reply]:
        """All at once."""
        self.begin(turns, max_tokens=max_tokens)
        return [
            Reply(reply["agent"], _completion(reply["completion"]), tuple(reply["context"]))
            for reply in self._child.hear()
        ]

    def begin(self, turns: Sequence[Turn], *, max_tokens: int) -> None:
        """Only the question."""
        self._child.send(do="say", turns=[attrs.astuple(turn) for turn in turns], max_tokens=max_tokens)

    def agents(self) -> list[Standing]:
        """As the engine has them."""
        return [
            Standing(agent["agent"], agent["turns"], tuple(agent["context"])) for agent in self._child.ask(do="agents")
        ]

    def flush(self) -> None:
        """Wait for the disk."""
        self._child.ask(do="flush")

    def loaded_blocks(self) -> int:
        """From the engine's counts."""
        return int(self._child.ask(do="loaded_blocks"))

    def kill(self, after_s: float = 0.0) -> None:
        """SIGKILL."""
        time.sleep(after_s)
        self._child.kill()

    def close(self) -> None:
        """The engine closes when its input ends."""
        self._child.close()


def _completion(fields: dict[str, Any]) -> Completion:
    return Completion(
        text=fields["text"],
        token_ids=tuple(fields["token_ids"]),
        finish_reason=FinishReason(fields["finish_reason"]),
        usage=Usage(**fields["usage"]),
        timings=Timings(**fields["timings"]),
    )
