"""An engine's own process: does what :class:`~semantic.adapters.mlx.engine_process.ChildEngine` asks, line by line."""

import argparse
import sys
from typing import Any

import attrs

from semantic.adapters.json_worker import answers_on_stdout, serve, tell
from semantic.application.ports.engine import Prompt
from semantic.application.ports.engine_process import Change

_VERBS = ("generate", "make", "fork", "say", "agents", "flush", "loaded_blocks")


class EngineWorker:
    """The verbs of the port, on one engine."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def do(self, do: str, **arguments: Any) -> Any:
        """One request."""
        if do not in _VERBS:
            raise ValueError(f"an engine process does not {do!r}")
        return getattr(self, do)(**arguments)

    def generate(self, prompt: Prompt, max_tokens: int) -> dict[str, Any]:
        return attrs.asdict(self._engine.generate(prompt, max_tokens=max_tokens))

    def make(self, agent: str, system: str) -> None:
        self._engine.agent(agent, system=system)

    def fork(self, agent: str, name: str) -> None:
        self._engine.agent(agent).fork(name)

    def say(self, turns: list[tuple[str, str]], max_tokens: int) -> list[dict[str, Any]]:
        """Every turn is begun before the first is waited for."""
        agents = [self._engine.agent(name) for name, _ in turns]
        streams = [
            agent.stream(message, max_tokens=max_tokens) for agent, (_, message) in zip(agents, turns, strict=True)
        ]
        completions = [list(stream)[-1].completion for stream in streams]
        return [
            {"agent": agent.name, "completion": attrs.asdict(completion), "context": agent.tokens}
            for agent, completion in zip(agents, completions, strict=True)
        ]

    def agents(self) -> list[dict[str, Any]]:
        return [
            {"agent": agent.name, "turns": agent.record.turns, "context": agent.tokens}
            for agent in self._engine.agents()
        ]

    def flush(self) -> None:
        self._engine.flush()

    def loaded_blocks(self) -> int:
        return int(self._engine.stats().loaded_blocks)


def open_engine(model: str, store: str, change: Change) -> Any:
    """The engine, different in what ``change`` names."""
    import semantic

    match change:
        case Change.NONE:
            return semantic.open(model, store=store)
        case Change.COMPUTE_DTYPE:
            return semantic.open(model, store=store, compute_dtype="bfloat16")
        case Change.LAYOUT:
            return semantic.open(model, store=store, cache_layout="contiguous")
        case Change.LANE:
            return semantic.open(model, store=store, exactness="bit")
    weights, tokenizer = semantic.load(model)
    if change is Change.WEIGHT:
        _change_one_weight(weights)
    if change is Change.TEMPLATE:
        tokenizer.chat_template += "{# says the same #}"
    return semantic.open((weights, tokenizer), store=store)


def _change_one_weight(model: Any) -> None:
    """By so little that the tokens stay the same."""
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    name, array = next((name, leaf) for name, leaf in tree_flatten(model.parameters()) if leaf.ndim == 1)
    step = mx.zeros_like(array)
    step[0] = 1e-3
    model.update(tree_unflatten([(name, array + step)]))


def main() -> None:
    """Open the engine and serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--change", type=Change, default=Change.NONE)
    arguments = parser.parse_args()
    answers = answers_on_stdout()
    with open_engine(arguments.model, arguments.store, arguments.change) as engine:
        tell(answers, "ready")
        serve(EngineWorker(engine).do, sys.stdin, answers)


if __name__ == "__main__":
    main()
