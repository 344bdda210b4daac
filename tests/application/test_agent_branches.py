"""Forks, checkpoints, rewinding and pins: what they share, and what they cost in blocks."""

import pytest
from talking import Desk, chat_prompt, is_cold

from semantic.adapters.fakes import fake_engine
from semantic.application.agent import Agent
from semantic.domain.errors import AgentExistsError, InvalidRequestError, UnknownPointError


def told(agent: Agent, *more: tuple[str, str]) -> list[int]:
    """The prompt that an agent's next message makes."""
    return chat_prompt(*((entry["role"], entry["content"]) for entry in agent.history), *more)


# -- forks -------------------------------------------------------------------------------------------


def test_a_fork_copies_no_block_and_computes_nothing(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system="Be terse.")
        alice.chat("Tell me about blocks.", max_tokens=20)
        before, blocks = engine.stats(), len(desk.model.memory.blocks)
        bob = alice.fork("bob")
        engine.flush()
        after = engine.stats()
        assert (after.steps, after.pool_cached_blocks, after.pool_blocks_in_use) == (
            before.steps,
            before.pool_cached_blocks,
            0,
        )
        assert len(desk.model.memory.blocks) == blocks
        assert (bob.tokens, bob.history, bob.record.system) == (alice.tokens, alice.history, "Be terse.")
        origin, fork = desk.store.agents()
        assert origin.blocks == fork.blocks


def test_a_fork_and_its_origin_go_on_on_their_own(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.chat("Tell me about blocks.", max_tokens=20)
        bob = alice.fork("bob")
        shared = len(alice.tokens) - 1
        for agent, message in ((alice, "And tails?"), (bob, "Another thing:"), (alice, "More."), (bob, "More!")):
            prompt = told(agent, ("user", message))
            known = len(agent.tokens) - 1
            done = agent.chat(message, max_tokens=10)
            assert is_cold(done, prompt)
            assert done.usage.cached_tokens >= known
        assert alice.tokens[:shared] == bob.tokens[:shared]
        assert alice.history[2:] != bob.history[2:]


def test_the_name_of_a_fork_must_be_free(desk: Desk) -> None:
    with desk.open() as engine:
        alice, bob = engine.agent("alice"), engine.agent("bob")
        with pytest.raises(AgentExistsError, match="'bob' is there already"):
            alice.fork("bob")
        with pytest.raises(InvalidRequestError):
            alice.fork("")
        assert engine.agents() == [alice, bob]


def test_a_fork_from_a_point_knows_what_was_said_up_to_it(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system="Be terse.")
        alice.chat("One", max_tokens=10)
        alice.checkpoint("one")
        alice.chat("Two", max_tokens=10)
        by_label, by_count, from_end = alice.fork("a", at="one"), alice.fork("b", at=3), alice.fork("c", at=-2)
        assert by_label.history == by_count.history == from_end.history == alice.history[:3]
        assert by_label.tokens == by_count.tokens == from_end.tokens == alice.tokens[: len(by_label.tokens)]
        prompt = told(by_label, ("user", "Three"))
        done = by_label.chat("Three", max_tokens=10)
        assert is_cold(done, prompt)
        assert done.usage.cached_tokens >= len(by_count.tokens) - 1
        assert by_label.checkpoints == ("one",)


def test_an_unknown_point_is_refused_and_nothing_is_made_or_moved(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.chat("One", max_tokens=3)
        for point in ("nowhere", 3, -3):
            with pytest.raises(UnknownPointError):
                alice.fork("bob", at=point)
            with pytest.raises(UnknownPointError):
                alice.rewind(point)
        assert engine.agents() == [alice]
        assert len(alice.history) == 2


# -- going back --------------------------------------------------------------------------------------


def test_rewinding_goes_back_and_the_other_way_from_there_is_new(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.chat("One", max_tokens=10)
        alice.checkpoint("one")
        two = alice.chat("Two", max_tokens=10)
        alice.rewind("one")
        assert [entry["content"] for entry in alice.history[:1]] == ["One"]
        known = len(alice.tokens) - 1
        prompt = told(alice, ("user", "Or three"))
        done = alice.chat("Or three", max_tokens=10)
        assert is_cold(done, prompt)
        assert done.usage.cached_tokens >= known
        alice.rewind("one")
        again = alice.chat("Two", max_tokens=10)
        assert again.token_ids == two.token_ids
        assert again.usage.cached_tokens >= again.usage.prompt_tokens - 1
        alice.rewind(0)
        assert (alice.history, alice.tokens, alice.checkpoints) == ([], (), ())


def test_rewinding_takes_the_last_turn_back(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.chat("One", max_tokens=10)
        before = alice.record
        alice.chat("Two", max_tokens=10)
        alice.rewind(-2)
        assert (alice.record.history, alice.record.token_ids) == (before.history, before.token_ids)


# -- what branches cost ------------------------------------------------------------------------------


def test_a_hundred_branches_cost_their_differences(desk: Desk) -> None:
    with desk.open(blocks=400) as engine:
        trunk = engine.agent("trunk", system="What all of them know. " * 20)
        trunk.chat("Begin.", max_tokens=10)
        engine.flush()
        alone = desk.store.stats().blocks
        branches = [trunk.fork(f"branch {i}") for i in range(100)]
        engine.flush()
        assert desk.store.stats().blocks == alone
        assert len({agent.blocks for agent in desk.store.agents()}) == 1
        for i, branch in enumerate(branches):
            branch.chat(f"{i:03}", max_tokens=4)
        engine.flush()
        whole = -(-len(branches[0].tokens) // 16)
        assert whole >= 32
        each = 3 if desk.model.memory.seals_in_place else 5  # its own end of the shared block, and what lies behind
        assert desk.store.stats().blocks - alone <= 100 * each
        assert engine.stats().pool_cached_blocks - alone <= 100 * each


# -- pins --------------------------------------------------------------------------------------------


def fill(engine: object, number: int) -> None:
    engine.generate([1 + number % 200] * 100, max_tokens=3)  # type: ignore[attr-defined]


def test_without_a_pin_what_was_used_least_recently_goes_first() -> None:
    with fake_engine(blocks=16) as engine:
        alice = engine.agent("alice")
        alice.chat("Tell me about blocks.", max_tokens=20)
        for i in range(4):
            fill(engine, i)
        assert alice.chat("Still there?", max_tokens=3).usage.cached_tokens == 0


def test_a_pinned_agent_stays_in_memory_as_it_is_and_as_it_will_be() -> None:
    with fake_engine(blocks=16) as engine:
        alice = engine.agent("alice")
        alice.chat("Hi", max_tokens=10)
        alice.pin()
        for i in range(4):
            fill(engine, i)
            assert engine.stats().pool_blocks_in_use >= 2
            before = len(alice.tokens) - 1
            assert alice.chat("And?", max_tokens=3).usage.cached_tokens == before
        alice.unpin()
        for i in range(4, 8):
            fill(engine, i)
        assert engine.stats().pool_blocks_in_use == 0
        assert alice.chat("Still there?", max_tokens=3).usage.cached_tokens == 0


def test_an_agent_that_was_rewound_into_a_block_is_pinned_with_it() -> None:
    with fake_engine(blocks=16) as engine:
        alice = engine.agent("alice")
        alice.chat("Hi", max_tokens=4)
        alice.chat("And?", max_tokens=4)
        alice.rewind(2)
        alice.pin()
        for i in range(4):
            fill(engine, i)
        assert alice.chat("So?", max_tokens=3).usage.cached_tokens >= len(chat_prompt(("user", "Hi"))) + 3


def test_a_pin_yields_where_nothing_else_fits_and_holds_again_afterwards(desk: Desk) -> None:
    with desk.open(blocks=16) as engine:
        alice = engine.agent("alice")
        alice.chat("Hi", max_tokens=30)
        alice.pin()
        engine.generate([7] * 230, max_tokens=10)
        assert [event.facts["reason"] for event in desk.telemetry.named("cache.pins.dropped")] == ["nothing else fits"]
        assert alice.chat("And?", max_tokens=3).usage.cached_tokens >= len(chat_prompt(("user", "Hi"))) + 29
        assert engine.generate("a", max_tokens=1)
        assert engine.stats().pool_blocks_in_use > 0
        alice.forget()
        assert engine.generate("a", max_tokens=1)
        assert engine.stats().pool_blocks_in_use == 0
