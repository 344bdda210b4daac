"""Agents in files: carried into another engine, and nothing left behind where that does not work."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from talking import MODELS, Desk, chat_prompt, is_cold

from semantic.adapters.fakes import FakeModel
from semantic.adapters.fakes.archive import MemoryArchive
from semantic.application.ports.agent_archive import ArchivedAgent
from semantic.application.ports.block_store import BlockToSave
from semantic.domain.errors import (
    AgentExistsError,
    AgentFileError,
    AgentNotFoundError,
    AgentOfOtherModelError,
    InvalidRequestError,
    SemanticError,
)
from semantic.domain.identifiers import BlockHash

FILE = Path("alice.agent")


@pytest.fixture(params=list(MODELS))
def desk(request: pytest.FixtureRequest) -> Desk:
    """One on whose archive lies alice, who said two things."""
    made = Desk(MODELS[request.param])
    write_alice(made)
    return made


def write_alice(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system="Be terse.")
        alice.chat("Tell me about blocks.", max_tokens=20)
        alice.checkpoint("one")
        alice.chat("And tails?", max_tokens=20)
        alice.export(FILE)


def elsewhere(desk: Desk) -> Desk:
    """Another machine that has the file."""
    return Desk(desk.make, archive=desk.archive)


@pytest.mark.parametrize("has_store", [True, False])
def test_an_agent_comes_back_elsewhere_with_all_that_was_computed(desk: Desk, has_store: bool) -> None:
    there = elsewhere(desk)
    record = desk.archive.files[FILE][0].record
    with there.open(has_store=has_store, blocks=40) as engine:
        alice = engine.import_agent(FILE)
        assert (alice.name, alice.tokens, alice.checkpoints) == ("alice", record.token_ids, ("one",))
        prompt = chat_prompt(*((entry["role"], entry["content"]) for entry in alice.history), ("user", "More."))
        done = alice.chat("More.", max_tokens=5)
        assert is_cold(done, prompt)
        assert done.usage.cached_tokens == len(record.token_ids) - 1
        assert engine.agents() == [alice]


def test_what_was_brought_is_in_the_store_once_it_is_there(desk: Desk) -> None:
    there = elsewhere(desk)
    with there.open() as engine:
        engine.import_agent(FILE)
    with there.open() as engine:
        alice = engine.agent("alice")
        known = len(alice.tokens) - 1
        assert alice.chat("More.", max_tokens=5).usage.cached_tokens == known
        alice.forget()
        assert (there.in_memory(), there.in_store()) == ([], [])


def test_an_agent_may_take_another_name_and_another_namespace(desk: Desk) -> None:
    there = elsewhere(desk)
    with there.open() as engine:
        alice = engine.import_agent(FILE)
        bob = engine.import_agent(FILE, name="bob")
        carol = engine.import_agent(FILE, name="carol", namespace="acme")
        assert [(agent.namespace, agent.name) for agent in engine.agents()] == [
            ("acme", "carol"),
            ("default", "alice"),
            ("default", "bob"),
        ]
        known = len(alice.tokens) - 1
        alice.forget()
        for agent in (bob, carol):
            assert agent.chat("More.", max_tokens=5).usage.cached_tokens == known


def test_a_name_that_is_taken_is_refused_and_nothing_is_brought_in(desk: Desk) -> None:
    there = elsewhere(desk)
    with there.open() as engine:
        alice = engine.agent("alice")
        with pytest.raises(AgentExistsError, match="'alice' is there already"):
            engine.import_agent(FILE)
        for name in ("", "x" * 257):
            with pytest.raises(InvalidRequestError):
                engine.import_agent(FILE, name=name)
        engine.flush()
        assert engine.agents() == [alice]
        assert (there.in_memory(), there.in_store()) == ([], [])


def test_another_model_is_refused_with_both_fingerprints_named(desk: Desk) -> None:
    there = elsewhere(desk)
    other = there.make()
    other.profile = attrs.evolve(other.profile, fingerprint="e" * 64, name="other")
    with there.open(model=other) as engine:
        with pytest.raises(AgentOfOtherModelError) as caught:
            engine.import_agent(FILE)
        assert caught.value.ours == f"other ({'e' * 64})"
        assert caught.value.theirs == f"fake ({FakeModel().profile.fingerprint})"
        assert (engine.agents(), there.in_memory(), there.in_store()) == ([], [], [])


def test_an_agent_that_was_computed_in_another_way_comes_without_its_blocks_and_telemetry_says_so() -> None:
    desk = Desk()
    write_alice(desk)
    there = elsewhere(desk)
    with there.open(model=FakeModel(layout="contiguous")) as engine:
        alice = engine.import_agent(FILE)
        assert len(there.telemetry.named("agent.import.recomputes")) == 1
        prompt = chat_prompt(*((entry["role"], entry["content"]) for entry in alice.history), ("user", "More."))
        done = alice.chat("More.", max_tokens=5)
        assert done.usage.cached_tokens == 0
        assert is_cold(done, prompt)


# -- small pools -------------------------------------------------------------------------------------


def test_where_the_pool_is_full_the_store_takes_the_blocks(desk: Desk) -> None:
    there = elsewhere(desk)
    with there.open(blocks=20) as engine:
        first = engine.agent("first")
        first.chat("Tell me about blocks.", max_tokens=240)
        first.pin()
        alice = engine.import_agent(FILE)
        stored = {agent.record.name: agent for agent in there.store.agents()}
        names = {block.block.hash for block in desk.archive.files[FILE][1]}
        assert set(stored["alice"].blocks) >= names
        first.unpin()
        known = len(alice.tokens) - 1
        assert alice.chat("More.", max_tokens=5).usage.cached_tokens == known
        alice.forget()
        first.forget()
        assert (there.in_memory(), there.in_store()) == ([], [])


def test_where_there_is_no_room_at_all_the_beginning_is_kept_and_the_rest_computed_again(desk: Desk) -> None:
    there = elsewhere(desk)
    with there.open(blocks=20, has_store=False) as engine:
        first = engine.agent("first")
        first.chat("Tell me about blocks.", max_tokens=230)
        first.pin()
        alice = engine.import_agent(FILE)
        first.unpin()
        prompt = chat_prompt(*((entry["role"], entry["content"]) for entry in alice.history), ("user", "More."))
        done = alice.chat("More.", max_tokens=5)
        assert done.usage.cached_tokens < len(prompt) - 30
        assert is_cold(done, prompt)


def test_a_full_disk_lets_an_agent_in_that_memory_has_room_for(desk: Desk) -> None:
    there = elsewhere(desk)
    there.store.full = True
    with there.open() as engine:
        alice = engine.import_agent(FILE)
        known = len(alice.tokens) - 1
        assert alice.chat("More.", max_tokens=5).usage.cached_tokens == known


# -- what goes into a file ---------------------------------------------------------------------------


def test_an_agent_whose_blocks_are_only_in_the_store_is_written_whole(desk: Desk) -> None:
    whole = desk.archive.files[FILE]
    with desk.open() as engine:
        engine.agent("alice").export("again")
        assert desk.in_memory() == []
    assert desk.archive.files[Path("again")][0] == whole[0]
    hashes = [block.block.hash for block in desk.archive.files[Path("again")][1]]
    assert hashes == [block.block.hash for block in whole[1]]


@pytest.mark.parametrize("is_resident", [True, False])
def test_what_was_rewound_does_not_leave_with_the_agent(is_resident: bool) -> None:
    desk = Desk()
    engine = desk.open()
    alice = engine.agent("alice")
    alice.generate("x" * 20, max_tokens=1)
    alice.generate("####", max_tokens=3)
    alice.rewind(2)
    if not is_resident:
        engine.close()
        engine = desk.open()
    engine.agent("alice").export(FILE)
    engine.generate("a", max_tokens=1)
    assert engine.stats().pool_blocks_in_use == 0
    engine.close()
    there = elsewhere(desk)
    with there.open() as engine:
        alice = engine.import_agent(FILE)
        assert not there.has("#")
        assert alice.generate("And?", max_tokens=3).usage.cached_tokens == 21


def test_a_damaged_block_ends_the_file_before_it_and_telemetry_says_so(desk: Desk) -> None:
    third = desk.archive.files[FILE][1][2].block
    desk.store.damage(third.hash)
    with desk.open() as engine:
        engine.agent("alice").export("again")
    (event,) = desk.telemetry.named("agent.export.incomplete")
    assert event.facts["from_token"] == third.start
    there = elsewhere(desk)
    with there.open() as engine:
        assert engine.import_agent("again").chat("More.", max_tokens=3).usage.cached_tokens <= third.start + 16


def test_a_forgotten_agent_is_not_written(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.forget()
        with pytest.raises(AgentNotFoundError):
            alice.export("again")


def test_writing_holds_the_blocks_and_gives_them_back_also_if_the_disk_refuses(desk: Desk) -> None:
    class Refusing(MemoryArchive):
        def write(self, path: Path, agent: ArchivedAgent, blocks: Iterable[BlockToSave]) -> None:
            next(iter(blocks))
            raise AgentFileError("no space left")

    with desk.open(archive=Refusing()) as engine:
        with pytest.raises(AgentFileError, match="no space left"):
            engine.agent("alice").export(FILE)
        engine.generate("a", max_tokens=1)
        assert engine.stats().pool_blocks_in_use == 0


# -- files that are not what they were ---------------------------------------------------------------


@attrs.define
class Altered(MemoryArchive):
    """Gives blocks that ``alter`` made of those in the file."""

    alter: Any = None

    def blocks(self, path: Path) -> Iterator[BlockToSave]:
        for number, block in enumerate(super().blocks(path)):
            yield self.alter(block) if number == 3 else block


def other_tokens(block: BlockToSave) -> BlockToSave:
    return attrs.evolve(block, block=attrs.evolve(block.block, tokens=b"\1\0\0\0" * (len(block.block.tokens) // 4)))


def other_start(block: BlockToSave) -> BlockToSave:
    return attrs.evolve(block, block=attrs.evolve(block.block, start=block.block.start + 1))


def other_arrays(block: BlockToSave) -> BlockToSave:
    header = attrs.evolve(block.tensors[0].header, name="keys")
    return attrs.evolve(block, tensors=[attrs.evolve(block.tensors[0], header=header)])


def damaged(block: BlockToSave) -> BlockToSave:
    raise AgentFileError("blocks/000003.safetensors is not what was written")


@pytest.mark.parametrize("alter", [other_tokens, other_start, other_arrays, damaged])
def test_a_file_with_a_wrong_block_leaves_nothing_behind(desk: Desk, alter: Any) -> None:
    there = elsewhere(desk)
    archive = Altered(files=desk.archive.files, alter=alter)
    with there.open(archive=archive) as engine:
        with pytest.raises(AgentFileError):
            engine.import_agent(FILE)
        engine.flush()
        assert (engine.agents(), there.in_memory(), there.in_store()) == ([], [], [])
        engine.generate("a", max_tokens=1)
        assert engine.stats().pool_blocks_in_use == 0


def test_a_wrong_block_takes_nothing_from_others(desk: Desk) -> None:
    """What another agent has computed already stays, also where the file has it too."""
    there = elsewhere(desk)
    with there.open(archive=Altered(files=desk.archive.files, alter=damaged)) as engine:
        bob = engine.agent("bob", system="Be terse.")
        bob.chat("Tell me about blocks.", max_tokens=20)
        known = len(bob.tokens) - 1
        with pytest.raises(AgentFileError):
            engine.import_agent(FILE)
        assert bob.chat("And?", max_tokens=3).usage.cached_tokens >= known


def test_a_damaged_file_and_one_that_is_not_there_are_refused(desk: Desk) -> None:
    there = elsewhere(desk)
    there.archive.damaged.add(FILE)
    with there.open() as engine:
        for path in (FILE, "nowhere"):
            with pytest.raises(AgentFileError):
                engine.import_agent(path)
        assert engine.agents() == []


def test_names_in_a_file_are_not_believed(desk: Desk) -> None:
    """A block's name is computed from its tokens, whatever the file says."""
    agent, blocks = desk.archive.files[FILE]
    wrong = [attrs.evolve(one, block=attrs.evolve(one.block, hash=BlockHash(b"\1" * 32))) for one in blocks]
    there = elsewhere(desk)
    there.archive.files[FILE] = agent, wrong
    with there.open() as engine:
        alice = engine.import_agent(FILE)
        known = len(alice.tokens) - 1
        assert alice.chat("More.", max_tokens=3).usage.cached_tokens == known
        assert BlockHash(b"\1" * 32) not in {name for stored in there.store.agents() for name in stored.blocks}


def test_an_engine_that_closes_meanwhile_ends_the_import(desk: Desk) -> None:
    there = elsewhere(desk)
    engines = []

    class Closing(MemoryArchive):
        def blocks(self, path: Path) -> Iterator[BlockToSave]:
            for block in super().blocks(path):
                yield block
                engines[0].close()

    with there.open(archive=Closing(files=desk.archive.files)) as engine:
        engines.append(engine)
        with pytest.raises(SemanticError, match="closed"):
            engine.import_agent(FILE)
    with there.open() as engine:
        assert engine.agents() == []
