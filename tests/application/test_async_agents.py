"""Agents from event loops, on fakes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from gating import Gate
from looping import open_once_closed, run, until

from semantic.adapters.fakes import FakeModel, MemoryStore, fake_engine, fake_tier
from semantic.application.async_agent import AsyncAgent
from semantic.application.async_engine import AsyncEngine
from semantic.domain.errors import AgentKindError, AgentNotFoundError, EngineClosedError, EngineDrainingError


def test_an_agent_says_the_same_whether_it_is_awaited_or_not() -> None:
    async def main() -> None:
        async with AsyncEngine(fake_engine()) as engine:
            alice, bob = engine.agent("alice", system="Terse."), engine.sync.agent("bob", system="Terse.")
            assert (await alice.chat("Hello", max_tokens=5)).text == bob.chat("Hello", max_tokens=5).text
            streamed = [delta.text async for delta in alice.stream("And?", max_tokens=5)]
            assert "".join(streamed) == bob.chat("And?", max_tokens=5).text
            assert (alice.tokens, alice.history) == (bob.tokens, bob.history)
            assert (alice.name, alice.namespace) == ("alice", "default")

    run(main())


def test_an_agent_and_a_prompt_have_tools_and_template_arguments() -> None:
    async def main() -> None:
        given: dict[str, Any] = {"tools": [{"type": "function"}], "chat_template_kwargs": {"enable_thinking": False}}
        messages = [{"role": "user", "content": "Hello"}]
        async with AsyncEngine(fake_engine()) as engine:
            alice = engine.agent("alice", **given)
            expected = engine.sync.encode(messages, **given)
            assert await engine.encode(messages, **given) == expected
            assert (await alice.chat("Hello", max_tokens=5)).usage.prompt_tokens == len(expected)
            assert (await engine.generate(messages, max_tokens=5, **given)).usage.cached_tokens == len(expected) - 1

    run(main())


def test_every_verb_of_an_agent_can_be_awaited(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncEngine(fake_engine()) as engine:
            alice = engine.agent("alice")
            await alice.append("Tom is grey.", role="user")
            await alice.checkpoint("grey")
            await alice.chat("What is he?", max_tokens=3)
            bob = await alice.fork("bob", at="grey")
            await alice.rewind("grey")
            assert alice.tokens == bob.tokens
            assert alice.checkpoints == ("grey",)
            await alice.pin()
            await alice.unpin()
            await alice.export(tmp_path / "alice.agent")
            twin = await engine.import_agent(tmp_path / "alice.agent", name="twin")
            assert twin.record.token_ids == alice.tokens
            await bob.forget()
            assert [agent.name for agent in engine.agents()] == ["alice", "twin"]
            with pytest.raises(AgentNotFoundError):
                await bob.chat("Still there?")
            novel = engine.agent("novel")
            assert len((await novel.generate("It was", max_tokens=4)).token_ids) == 4
            with pytest.raises(AgentKindError):
                await novel.chat("Hello")
            assert repr(novel) == repr(novel.sync)

    run(main())


def test_turns_of_one_agent_run_in_the_order_they_were_asked_for() -> None:
    async def main() -> None:
        async with AsyncEngine(fake_engine()) as engine:
            alice = engine.agent("alice")
            await asyncio.gather(*(alice.chat(f"Message {number}", max_tokens=2) for number in range(8)))
            said = [entry["content"] for entry in alice.history if entry["role"] == "user"]
            assert said == [f"Message {number}" for number in range(8)]

    run(main())


def test_turns_of_many_agents_run_together() -> None:
    model = FakeModel()

    async def main() -> None:
        async with AsyncEngine(fake_engine(model=model, max_num_seqs=16)) as engine:
            agents = [engine.agent(f"agent {number}") for number in range(40)]
            await asyncio.gather(*(agent.chat("Hello", max_tokens=40) for agent in agents))
            assert all(len(agent.history) == 2 for agent in agents)

    run(main())
    assert max(int(forward.split()[1]) for forward in model.forwards if forward.startswith("decode")) > 1


def test_a_turn_asked_for_in_the_middle_of_a_stream_waits_for_that_turns_end() -> None:
    async def main() -> None:
        async with AsyncEngine(fake_engine()) as engine:
            alice = engine.agent("alice")
            async for _ in alice.stream("Tell me", max_tokens=30):
                twin = await alice.fork("twin")
                assert len(twin.history) == 2
                break

    run(main())


def test_a_task_cancelled_in_the_middle_of_a_turn_leaves_the_agent_where_it_stood(gate: Gate) -> None:
    async def main() -> None:
        async with AsyncEngine(fake_engine(model=FakeModel(choose=gate))) as engine:
            alice = engine.agent("alice")
            task = asyncio.create_task(alice.chat("Hello", max_tokens=900))
            await until(gate.reached.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.open()
            await alice.chat("Hello again", max_tokens=2)
            assert [entry["content"] for entry in alice.history][:1] == ["Hello again"]
            assert engine.stats().pool_blocks_in_use == 0

    run(main())


def test_a_task_cancelled_while_it_waits_for_a_turn_leaves_the_line(gate: Gate) -> None:
    async def main() -> None:
        async with AsyncEngine(fake_engine(model=FakeModel(choose=gate))) as engine:
            alice = engine.agent("alice")
            first, second, third = (
                asyncio.create_task(alice.chat(what, max_tokens=2)) for what in ("one", "two", "three")
            )
            await until(gate.reached.is_set)
            second.cancel()
            gate.open()
            await asyncio.gather(first, third)
            assert [entry["content"] for entry in alice.history if entry["role"] == "user"] == ["one", "three"]

    run(main())


def test_a_loop_that_is_closed_on_a_task_that_waits_for_a_turn_gives_that_turn_to_the_next(gate: Gate) -> None:
    with fake_engine(model=FakeModel(choose=gate)) as sync:
        alice = sync.agent("alice")
        turn = alice.stream("one", max_tokens=2)
        gate.await_reached()

        loop = asyncio.new_event_loop()
        waiting = loop.create_task(AsyncEngine(sync).agent("alice").chat("lost", max_tokens=2))
        loop.run_until_complete(asyncio.sleep(0.02))
        loop.close()
        gate.open()
        assert len(list(turn)) == 2
        alice.chat("two", max_tokens=2)
        assert [entry["content"] for entry in alice.history if entry["role"] == "user"] == ["one", "two"]
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_drain_finishes_the_turn_that_goes_on_and_refuses_the_one_that_waits(gate: Gate) -> None:
    store = MemoryStore()

    async def main() -> None:
        async with AsyncEngine(fake_engine(model=FakeModel(choose=gate), tier=fake_tier(store))) as engine:
            alice: AsyncAgent = engine.agent("alice")
            first = asyncio.create_task(alice.chat("one", max_tokens=2))
            await until(gate.reached.is_set)
            second = asyncio.create_task(alice.chat("two", max_tokens=2))
            draining = asyncio.create_task(engine.drain())
            await asyncio.sleep(0.01)
            gate.open()
            await draining
            assert [stored.record for stored in store.agents()] == [alice.record]
            assert first.done() or (await first)
            with pytest.raises(EngineDrainingError):
                await second
            assert len(alice.history) == 2

    run(main())


def test_closing_frees_whoever_waits_for_a_turn(gate: Gate) -> None:
    async def main() -> None:
        async with AsyncEngine(fake_engine(model=FakeModel(choose=gate))) as engine:
            alice = engine.agent("alice")
            first, second = (asyncio.create_task(alice.chat(what, max_tokens=900)) for what in ("one", "two"))
            await until(gate.reached.is_set)
            opening = asyncio.create_task(open_once_closed(engine, gate))
        await opening
        assert (await first).finish_reason == "cancelled"
        with pytest.raises(EngineClosedError):
            await second

    run(main())


def test_a_turn_begins_also_while_every_thread_for_other_verbs_waits_behind_it(gate: Gate) -> None:
    async def main() -> None:
        async with AsyncEngine(fake_engine(model=FakeModel(choose=gate))) as engine:
            alice = engine.agent("alice")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(alice.chat("One", max_tokens=2))
                await until(gate.reached.is_set)
                tasks.create_task(alice.chat("Two", max_tokens=2))
                await asyncio.sleep(0)
                for number in range(40):
                    tasks.create_task(alice.checkpoint(str(number)))
                await asyncio.sleep(0.05)
                gate.open()
            assert [entry["content"] for entry in alice.history[::2]] == ["One", "Two"]
            assert len(alice.checkpoints) == 40

    run(main())
