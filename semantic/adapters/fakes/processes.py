"""Engine processes without processes: each an engine on fakes that can die, on the stores that outlive it."""

import hashlib
from collections.abc import Callable, Sequence
from typing import cast

import attrs
from attrs import define, field

from semantic.adapters.fakes.clock import FakeClock
from semantic.adapters.fakes.engine import fake_engine
from semantic.adapters.fakes.model import FakeModel
from semantic.adapters.fakes.stores import FakeStores, MortalStore
from semantic.adapters.fakes.tier import fake_tier
from semantic.application.ports.block_store import BlockStore
from semantic.application.ports.engine import Prompt
from semantic.application.ports.engine_process import Change, Reply, Standing, Turn
from semantic.domain.errors import ChildEndedError
from semantic.domain.value_objects import Completion


class WorkingModel(FakeModel):
    """Takes a millisecond of a fake clock for each token that it prefills."""

    def __init__(self, clock: FakeClock, *, prefill_step_size: int = 4096, block_tokens: int = 16) -> None:
        super().__init__(prefill_step_size=prefill_step_size, block_tokens=block_tokens, context_length=None)
        self._clock = clock

    def prefill(self, cache: object, token_ids: Sequence[int]) -> None:
        """Let time pass."""
        self._clock.advance(0.001 * len(token_ids))
        super().prefill(cache, token_ids)


def changed(model: FakeModel, change: Change) -> FakeModel:
    """The model with what a change changes of its profile."""
    match change:
        case Change.WEIGHT | Change.TEMPLATE:
            how = {"fingerprint": hashlib.sha256(change.value.encode()).hexdigest()}
        case Change.COMPUTE_DTYPE:
            how = {"compute_dtype": "bfloat16"}
        case Change.LAYOUT | Change.LANE:
            how = {"cache_layout": change.value}
        case _:
            how = {}
    model.profile = attrs.evolve(model.profile, **how)  # type: ignore[arg-type]
    return model


@define
class FakeProcesses:
    """Fulfils the port of engine processes; ``stores`` are the lab's.

    ``model`` makes the model of each process, ``change`` changes it: give others to see an experiment say NO-GO. A
    process that is killed does ``writes_per_s`` more writes in the time that it is given.
    """

    stores: FakeStores
    model: Callable[[FakeClock], FakeModel] = WorkingModel
    change: Callable[[FakeModel, Change], FakeModel] = changed
    writes_per_s: float = 1000
    started: list[Change] = field(factory=list)

    def start(self, store: str, change: Change = Change.NONE) -> "FakeProcess":
        """Open an engine on the store."""
        self.started.append(change)
        clock = FakeClock(tick=0.001)
        return FakeProcess(self.stores.open(store), self.change(self.model(clock), change), clock, self.writes_per_s)


class FakeProcess:
    """What is begun is done when it is killed; what it writes after its death is lost."""

    def __init__(self, store: BlockStore, model: FakeModel, clock: FakeClock, writes_per_s: float) -> None:
        self._store = MortalStore(store, end=lambda: ())
        tier = fake_tier(cast(BlockStore, self._store))
        self._engine = fake_engine(model=model, blocks=4096, clock=clock, tier=tier)
        self._writes_per_s = writes_per_s
        self._begun: tuple[Sequence[Turn], int] = ((), 1)
        self._is_over = False

    def generate(self, prompt: Prompt, *, max_tokens: int) -> Completion:
        """One prompt."""
        self._require_life()
        return self._engine.generate(prompt, max_tokens=max_tokens)

    def make(self, agent: str, system: str) -> None:
        """A new agent."""
        self._require_life()
        self._engine.agent(agent, system=system)

    def fork(self, agent: str, name: str) -> None:
        """Another one."""
        self._require_life()
        self._engine.agent(agent).fork(name)

    def say(self, turns: Sequence[Turn], *, max_tokens: int) -> list[Reply]:
        """All at once."""
        self._require_life()
        agents = [self._engine.agent(turn.agent) for turn in turns]
        streams = [agent.stream(turn.message, max_tokens=max_tokens) for agent, turn in zip(agents, turns, strict=True)]
        ends = [list(stream)[-1] for stream in streams]
        return [
            Reply(agent.name, delta.completion, agent.tokens)
            for agent, delta in zip(agents, ends, strict=True)
            if delta.completion is not None
        ]

    def begin(self, turns: Sequence[Turn], *, max_tokens: int) -> None:
        """Later."""
        self._require_life()
        self._begun = turns, max_tokens

    def agents(self) -> list[Standing]:
        """By name."""
        self._require_life()
        return [Standing(agent.name, agent.record.turns, agent.tokens) for agent in self._engine.agents()]

    def flush(self) -> None:
        """Nothing waits."""
        self._require_life()
        self._engine.flush()

    def loaded_blocks(self) -> int:
        """From the engine's counts."""
        self._require_life()
        return self._engine.stats().loaded_blocks

    def kill(self, after_s: float = 0.0) -> None:
        """Do what was begun, as far as so many writes go."""
        self._store.writes_left = self._store.writes + int(after_s * self._writes_per_s)
        turns, max_tokens = self._begun
        self.say(turns, max_tokens=max_tokens)
        self.close()

    def close(self) -> None:
        """End it."""
        self._is_over = True
        self._engine.close()

    def _require_life(self) -> None:
        if self._is_over:
            raise ChildEndedError("this process was ended; start another one")
