"""Agents against a naive model that remembers nothing: what they say, what they keep, what they forget.

Every text an agent hears is its own, so that what is left of it in memory and store tells who is still remembered.
"""

from typing import Any

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from talking import Desk, chat_prompt, is_cold

from semantic.adapters.fakes import FakeModel, FakeTokenizer
from semantic.application.engine import Engine
from semantic.domain.value_objects import Reuse, common_tokens, pack_tokens

NAMES = ("alice", "bob", "carol", "dave")
PICK = st.integers(0, 1000)
LENGTHS = st.integers(1, 6)
REPLIES = st.integers(1, 20)


@define
class Believed:
    """What the naive model knows of an agent: its messages, and those it has ever had."""

    told: list[tuple[str, str]] = field(factory=list)
    ever: set[str] = field(factory=set)
    labels: dict[str, int] = field(factory=dict)


class Agents(RuleBasedStateMachine):
    """Turns, forks, rewinding, cancelling, forgetting, restarts; in a pool that is large enough, and in a small one."""

    make: Any = staticmethod(FakeModel)
    blocks = 300
    computes_nothing_twice = False

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(self.make)
        self.engine: Engine = self.desk.open(blocks=self.blocks)
        self.known: dict[str, Believed] = {}
        self.forgotten: set[str] = set()
        self.said = 0

    def teardown(self) -> None:
        self.engine.close()

    def text(self, length: int) -> str:
        """A text of markers that no other has; a block that holds much of it holds a whole one."""
        self.said += 1
        return f"[{self.said:04}]" * length

    def pick(self, which: int) -> str:
        return sorted(self.known)[which % len(self.known)]

    def any_known(self) -> bool:
        return bool(self.known)

    # -- rules -----------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), length=st.integers(0, 8))
    def make_agent(self, name: str, length: int) -> None:
        if name not in self.known:
            system = self.text(length) if length else None
            self.engine.agent(name, system=system)
            self.known[name] = Believed([("system", system)] if system else [])
            self.known[name].ever.update([system] if system else [])

    @precondition(any_known)
    @rule(which=PICK, length=LENGTHS, reply=REPLIES)
    def chat(self, which: int, length: int, reply: int) -> None:
        name, message = self.pick(which), self.text(length)
        believed, agent = self.known[name], self.engine.agent(self.pick(which))
        believed.told.append(("user", message))
        prompt = chat_prompt(*believed.told)
        known = common_tokens(pack_tokens(agent.tokens), pack_tokens(prompt))
        done = agent.chat(message, max_tokens=reply)
        assert is_cold(done, prompt)
        if self.computes_nothing_twice:
            assert done.usage.cached_tokens >= known - 1
        believed.told.append(("assistant", done.text))
        believed.ever.add(message)

    @precondition(any_known)
    @rule(which=PICK, length=LENGTHS)
    def append(self, which: int, length: int) -> None:
        name, message = self.pick(which), self.text(length)
        self.engine.agent(name).append(message, role="user")
        self.known[name].told.append(("user", message))
        self.known[name].ever.add(message)

    @precondition(any_known)
    @rule(which=PICK, length=LENGTHS, deltas=st.integers(0, 20))
    def leave(self, which: int, length: int, deltas: int) -> None:
        """A turn that is cancelled, unless it was over before."""
        name, message = self.pick(which), self.text(length)
        agent = self.engine.agent(name)
        stream = agent.stream(message, max_tokens=40)
        for _ in range(deltas):
            next(stream)
        stream.close()  # type: ignore[attr-defined]
        agent.checkpoint("left")  # waits for the turn's end
        believed = self.known[name]
        believed.ever.add(message)
        believed.told = [(entry["role"], entry["content"]) for entry in agent.history]
        believed.labels["left"] = len(believed.told)

    @precondition(any_known)
    @rule(which=PICK, name=st.sampled_from(NAMES), at=PICK)
    def fork(self, which: int, name: str, at: int) -> None:
        origin = self.pick(which)
        if name in self.known:
            return
        believed = self.known[origin]
        entries = at % (len(believed.told) + 1)
        self.engine.agent(origin).fork(name, at=entries)
        told = believed.told[:entries]
        labels = {label: n for label, n in believed.labels.items() if n <= entries}
        self.known[name] = Believed(list(told), {text for role, text in told if role != "assistant"}, labels)

    @precondition(any_known)
    @rule(which=PICK, at=PICK)
    def rewind(self, which: int, at: int) -> None:
        name = self.pick(which)
        believed = self.known[name]
        entries = at % (len(believed.told) + 1)
        self.engine.agent(name).rewind(entries)
        believed.told = believed.told[:entries]
        believed.labels = {label: n for label, n in believed.labels.items() if n <= entries}

    @precondition(any_known)
    @rule(which=PICK, pinned=st.booleans())
    def pin(self, which: int, pinned: bool) -> None:
        agent = self.engine.agent(self.pick(which))
        agent.pin() if pinned else agent.unpin()

    @precondition(any_known)
    @rule(which=PICK)
    def forget(self, which: int) -> None:
        name = self.pick(which)
        self.engine.agent(name).forget()
        self.forgotten |= self.known.pop(name).ever

    @precondition(any_known)
    @rule(which=PICK, name=st.sampled_from(NAMES))
    def carry(self, which: int, name: str) -> None:
        """Out into a file and in again under another name."""
        if name in self.known:
            return
        origin = self.pick(which)
        self.engine.agent(origin).export("file")
        self.engine.import_agent("file", name=name)
        believed = self.known[origin]
        texts = {text for role, text in believed.told if role != "assistant"}
        self.known[name] = Believed(list(believed.told), texts, dict(believed.labels))

    @precondition(any_known)
    @rule(which=PICK, length=LENGTHS)
    def anonymous(self, which: int, length: int) -> None:
        """A request that continues an agent's context, whose end goes with the agent's."""
        tokens = self.engine.agent(self.pick(which)).tokens
        prompt = [*tokens, *FakeTokenizer().encode("x" * length)]
        assert is_cold(self.engine.generate(prompt, max_tokens=3), prompt)

    @rule()
    def restart(self) -> None:
        self.engine.close()
        self.engine = self.desk.open(blocks=self.blocks)

    # -- what holds ------------------------------------------------------------------------------

    @invariant()
    def histories_are_what_was_told(self) -> None:
        assert {agent.name for agent in self.engine.agents()} == set(self.known)
        for agent in self.engine.agents():
            believed = self.known[agent.name]
            assert [(entry["role"], entry["content"]) for entry in agent.history] == believed.told
            assert set(agent.checkpoints) == set(believed.labels)

    @invariant()
    def nothing_is_left_of_what_was_forgotten(self) -> None:
        self.engine.flush()
        left = "\n".join(self.desk.in_memory() + self.desk.in_store())
        for text in self.forgotten - set().union(*(believed.ever for believed in self.known.values())):
            assert text[:6] not in left, f"{text[:6]} is still there"

    @invariant()
    def the_books_balance(self) -> None:
        self.engine.check_integrity()


class OnPages(Agents):
    """A large pool of pages."""

    computes_nothing_twice = True


class OnFewPages(Agents):
    """A pool that evicts all the time."""

    blocks = 70


class AtStates(Agents):
    """A model that goes on only from kept states."""

    make = staticmethod(lambda: FakeModel(layout="contiguous", reuse=Reuse.AT_STATES))


for machine in (OnPages, OnFewPages, AtStates):
    machine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)

TestOnPages, TestOnFewPages, TestAtStates = OnPages.TestCase, OnFewPages.TestCase, AtStates.TestCase
