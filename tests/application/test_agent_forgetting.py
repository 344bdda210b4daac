"""Forgetting: what is erased, from memory and from the store, and what others keep. ``#`` marks what must go."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from gating import SOON, Gate
from talking import Desk, chat_prompt, is_cold

from semantic.adapters.fakes import FakeClock, FakeModel, FakeTokenizer, MemoryStore, RecordingTelemetry, fake_engine
from semantic.application.store_tier import StoreTier
from semantic.domain.errors import AgentNotFoundError, EngineDrainingError, StoreError

SYSTEM = "All of us know this and keep it. "


def assert_forgotten(desk: Desk) -> None:
    left = desk.in_memory() + desk.in_store()
    assert [text for text in left if "#" in text] == []


def test_a_forgotten_agent_leaves_nothing_in_memory_and_nothing_in_the_store(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice")
        for _ in range(3):
            alice.chat("####", max_tokens=12)
        assert desk.has("##")
        alice.forget()
        assert (desk.in_memory(), desk.in_store()) == ([], [])
        assert engine.agents() == []


def test_a_turn_that_was_refused_keeps_nothing_from_being_forgotten(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.chat("####", max_tokens=12)
        engine.drain()
        with pytest.raises(EngineDrainingError):
            alice.chat("More.")
        alice.forget()
        assert (desk.in_memory(), desk.in_store()) == ([], [])


def test_after_forgetting_the_name_is_free_and_the_old_handle_is_of_no_use(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system="One")
        alice.forget()
        for verb in (lambda: alice.chat("Hi"), lambda: alice.fork("bob"), lambda: alice.rewind(0), alice.forget):
            with pytest.raises(AgentNotFoundError, match=r"'alice' was forgotten; engine.agent\(...\) makes a new one"):
                verb()
        assert engine.agent("alice", system="Two").record.system == "Two"


def test_what_another_agent_refers_to_stays_to_the_token(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system=SYSTEM)
        alice.chat("What we both heard.", max_tokens=20)
        bob = alice.fork("bob")
        alice.chat("####", max_tokens=20)
        known = len(bob.tokens) - 1
        alice.forget()
        assert_forgotten(desk)
        assert bob.chat("And?", max_tokens=5).usage.cached_tokens in (known, known + 1)  # alice fed the last token
    with desk.open() as engine:
        bob = engine.agent("bob")
        known = len(bob.tokens) - 1
        assert bob.chat("And?", max_tokens=5).usage.cached_tokens == known


@pytest.mark.parametrize("length", range(1, 34))
def test_what_is_shared_up_to_a_token_inside_a_block_stays_up_to_there(length: int) -> None:
    desk = Desk()
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.generate("x" * length, max_tokens=1)
        alice.generate("####", max_tokens=20)
        bob = alice.fork("bob", at=2)
        alice.forget()
        assert_forgotten(desk)
        assert bob.generate("And?", max_tokens=5).usage.cached_tokens == length + 1
    with desk.open() as engine:
        bob = engine.agent("bob")
        assert bob.generate("And?", max_tokens=5).usage.cached_tokens == len(bob.tokens) - 4 - 5 - 1


def test_what_is_shared_inside_a_block_stays_also_if_only_the_store_has_it() -> None:
    desk = Desk()
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.generate("x" * 20, max_tokens=1)
        alice.generate("####", max_tokens=5)
        alice.fork("bob", at=2)
    with desk.open() as engine:
        engine.agent("alice").forget()
        assert_forgotten(desk)
        assert engine.agent("bob").generate("And?", max_tokens=5).usage.cached_tokens == 21


def test_branches_that_were_rewound_go_too(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system=SYSTEM)
        alice.chat("Hi", max_tokens=3)
        alice.checkpoint("begin")
        for text in ("#### one", "#### two which is much longer than one block"):
            alice.chat(text, max_tokens=5)
            alice.rewind("begin")
        alice.chat("Now", max_tokens=3)
        assert desk.has("####")
        alice.forget()
        assert (desk.in_memory(), desk.in_store()) == ([], [])


def test_a_rewound_branch_goes_after_a_restart_too(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.chat("#### which is much longer than one block", max_tokens=5)
        alice.rewind(0)
    with desk.open() as engine:
        assert desk.has("####")
        engine.agent("alice").forget()
        assert_forgotten(desk)


def test_a_fork_of_a_rewound_branch_keeps_it() -> None:
    desk = Desk()
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.chat("Hi", max_tokens=3)
        alice.chat("####", max_tokens=3)
        bob = alice.fork("bob", at=2)
        alice.rewind(0)
        alice.forget()
        assert_forgotten(desk)
        assert bob.chat("And?", max_tokens=3).usage.cached_tokens == len(chat_prompt(("user", "Hi"))) + 3


def test_what_anonymous_requests_put_behind_it_goes_too(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system=SYSTEM)
        alice.chat("####", max_tokens=5)
        begun = list(alice.tokens)
        engine.generate([*begun, *FakeTokenizer().encode("!" * 40)], max_tokens=5)
        engine.generate([*begun, *FakeTokenizer().encode("!")], max_tokens=1)  # in the same block
        assert desk.has("!")
        alice.forget()
        assert_forgotten(desk)
        assert not desk.has("!")


def test_what_others_put_behind_a_shared_beginning_stays(desk: Desk) -> None:
    with desk.open() as engine:
        alice, bob = (engine.agent(name, system=SYSTEM * 2) for name in ("alice", "bob"))
        alice.chat("####", max_tokens=5)
        bob.chat("Hi", max_tokens=5)
        anonymous = chat_prompt(("system", SYSTEM * 2), ("user", "Hello, and what else is there to say?"))
        engine.generate(anonymous, max_tokens=5)
        known = len(bob.tokens) - 1
        alice.forget()
        assert_forgotten(desk)
        assert engine.generate(anonymous, max_tokens=5).usage.cached_tokens == len(anonymous) - 1
        assert bob.chat("And?", max_tokens=5).usage.cached_tokens >= known


@pytest.mark.parametrize("length", [3, 40])
def test_what_a_turn_left_behind_that_was_cancelled_goes_too(length: int) -> None:
    gate = Gate()
    gate.open()
    desk = Desk(lambda: FakeModel(choose=gate))
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.append("Hi" * length, role="user")
        shared = alice.fork("bob")
        gate.opened.clear()
        gate.reached.clear()
        stream = alice.stream("####", max_tokens=500)
        gate.await_reached()
        del stream
        gate.open()
        alice.rewind(0)
        engine.flush()
        assert desk.has("#")
        alice.forget()
        assert_forgotten(desk)
        known = len(shared.tokens)
        assert shared.chat("And?", max_tokens=3).usage.cached_tokens >= known


def test_what_a_turn_left_behind_that_closing_cancelled_goes_after_a_restart() -> None:
    gate = Gate()
    desk = Desk(lambda: FakeModel(choose=gate))
    engine = desk.open()
    alice = engine.agent("alice")
    stream = alice.stream("####", max_tokens=500)
    gate.await_reached()
    gate.open()
    engine.close()
    del stream
    with desk.open() as again:
        assert desk.has("#")
        again.agent("alice").rewind(0)
        again.agent("alice").forget()
        assert_forgotten(desk)


def test_what_a_failed_turn_left_behind_goes_too(desk: Desk) -> None:
    model = desk.make()
    model._fail_on = FakeTokenizer().encode("~")[0]
    with desk.open(model=model) as engine:
        alice = engine.agent("alice")
        with pytest.raises(RuntimeError):
            alice.chat("#" * 50 + "~", max_tokens=3)
        alice.forget()
        assert_forgotten(desk)


def test_a_twin_that_never_shared_a_turn_keeps_what_is_the_same(desk: Desk) -> None:
    """Both said the same, so that their blocks are the same, whoever computed them."""
    with desk.open() as engine:
        alice, bob = engine.agent("alice"), engine.agent("bob")
        for agent in (alice, bob):
            agent.chat("The very same words to both of them", max_tokens=9)
        known = len(bob.tokens) - 1
        alice.forget()
        assert bob.chat("And?", max_tokens=3).usage.cached_tokens == known


def test_another_namespace_keeps_the_same_words(desk: Desk) -> None:
    with desk.open() as engine:
        ours, theirs = engine.agent("alice"), engine.agent("alice", namespace="acme")
        for agent in (ours, theirs):
            agent.chat("The very same words to both of them", max_tokens=9)
        known = len(theirs.tokens) - 1
        ours.forget()
        assert theirs.chat("And?", max_tokens=3).usage.cached_tokens == known
        assert [agent.record.namespace for agent in desk.store.agents()] == ["acme"]


def test_a_turn_of_another_agent_that_goes_on_meanwhile_loses_nothing(desk: Desk) -> None:
    gate = Gate()
    gate.open()
    model = desk.make()
    model._choose = gate
    with desk.open(model=model) as engine:
        alice = engine.agent("alice")
        alice.chat("What we both heard, in so many words.", max_tokens=9)
        bob = alice.fork("bob")
        alice.chat("####", max_tokens=3)
        gate.opened.clear()
        gate.reached.clear()
        stream = bob.stream("A long story, please, about blocks and what is in them", max_tokens=20)
        gate.await_reached()
        with ThreadPoolExecutor(1) as threads:
            forgetting = threads.submit(alice.forget)
            gate.open()
            forgetting.result(SOON)
        list(stream)
        assert_forgotten(desk)
        known = len(bob.tokens) - 1
        assert bob.chat("And?", max_tokens=3).usage.cached_tokens == known


def test_what_was_computed_in_another_way_is_erased_from_the_store_too() -> None:
    """The same model in another lane: its blocks have other names, and are the agent's all the same."""
    desk = Desk()
    with desk.open() as engine:
        engine.agent("alice").chat("####", max_tokens=5)
    with desk.open(model=FakeModel(layout="contiguous")) as engine:
        alice = engine.agent("alice")
        alice.chat("#### again", max_tokens=5)
    with desk.open(model=FakeModel(layout="contiguous")) as engine:
        engine.agent("alice").forget()
        assert desk.store.stats().blocks == 0


class RefusingStore(MemoryStore):
    """A store that can't erase."""

    def forget_agent(self, *_: object) -> None:
        raise StoreError("the disk is read-only now")


def test_forgetting_returns_when_the_store_has_erased_it_or_says_why_it_has_not() -> None:
    store, telemetry = RefusingStore(), RecordingTelemetry()
    done = threading.Event()
    with ThreadPoolExecutor(1) as writer:

        def slowly() -> None:
            assert done.wait(SOON)

        tier = StoreTier(store, writer=writer, readers=ThreadPoolExecutor(1), clock=FakeClock(), telemetry=telemetry)
        with fake_engine(tier=tier) as engine:
            alice = engine.agent("alice")
            writer.submit(slowly)
            threading.Timer(0.1, done.set).start()
            with pytest.raises(StoreError, match="read-only now"):
                alice.forget()
            assert done.is_set()
            assert engine.agents() == []


def test_the_engine_goes_on_as_if_the_agent_had_never_been(desk: Desk) -> None:
    with desk.open() as engine:
        prompt = chat_prompt(("user", "####"))
        alice = engine.agent("alice")
        alice.chat("####", max_tokens=5)
        alice.forget()
        done = engine.generate(prompt, max_tokens=5)
        assert done.usage.cached_tokens == 0
        assert is_cold(done, prompt)


def test_what_an_anonymous_request_puts_behind_it_while_it_is_forgotten_is_not_kept(desk: Desk) -> None:
    gate = Gate()
    gate.open()
    model = desk.make()
    model._choose = gate
    with desk.open(model=model) as engine:
        alice = engine.agent("alice")
        alice.chat("#### in so many words", max_tokens=5)
        gate.opened.clear()
        gate.reached.clear()
        request = engine.submit([*alice.tokens, *FakeTokenizer().encode("!" * 40)], max_tokens=40)
        gate.await_reached()
        with ThreadPoolExecutor(1) as threads:
            forgetting = threads.submit(alice.forget)
            gate.open()
            forgetting.result(SOON)
        assert len(request.result(SOON).token_ids) == 40
        engine.flush()
        assert (desk.in_memory(), desk.in_store()) == ([], [])
