"""Agents on fakes: how they are found, their turns, and what they remember."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
from talking import Desk, Forgetful, chat_prompt, is_cold, says

from semantic.adapters.fakes import FakeModel, FakeTokenizer, fake_batch_engine, fake_engine
from semantic.adapters.fakes.archive import MemoryArchive
from semantic.adapters.fakes.telemetry import RecordingTelemetry
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.engine import Engine
from semantic.domain.errors import (
    AgentExistsError,
    AgentKindError,
    AgentOfOtherModelError,
    InvalidRequestError,
    TokenizerRequiredError,
)
from semantic.domain.value_objects import FinishReason

# -- turns -------------------------------------------------------------------------------------------


def test_a_chat_is_what_the_template_makes_of_its_history(engine: Engine) -> None:
    alice = engine.agent("alice", system="Be terse.")
    first = alice.chat("Hi", max_tokens=5)
    second = alice.chat("And?", max_tokens=3)
    told = [("system", "Be terse."), ("user", "Hi")]
    assert is_cold(first, chat_prompt(*told))
    assert is_cold(second, chat_prompt(*told, ("assistant", first.text), ("user", "And?")))
    assert alice.history == [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": second.text},
    ]


class Choking(FakeTokenizer):
    """Raises when it is asked for a text that ends a sentence."""

    def decode(self, token_ids: Sequence[int]) -> str:
        text = super().decode(token_ids)
        if text.endswith("."):
            raise RuntimeError("a sentence is too much")
        return text


def test_a_tokenizer_that_chokes_on_a_reply_ends_that_turn_alone() -> None:
    asked = FakeTokenizer().encode("ab")
    reply = [*FakeTokenizer().encode("Yes."), 0]
    model = FakeModel(choose=lambda token_ids: reply[(len(token_ids) - len(asked)) % 5])
    with fake_engine(model=model, tokenizer=Choking()) as engine:
        alice = engine.agent("alice")
        with pytest.raises(RuntimeError, match="a sentence is too much"):
            alice.generate("ab", max_tokens=10)
        assert (alice.tokens, alice.history) == ((), [])
        assert engine.agent("bob").generate("ab", max_tokens=3).text == "Yes"
        alice.forget()
        engine.check_integrity()


def test_the_tokens_are_the_last_turns_prompt_and_reply(engine: Engine) -> None:
    alice = engine.agent("alice")
    first = alice.chat("Hi", max_tokens=5)
    assert alice.tokens == (*chat_prompt(("user", "Hi")), *first.token_ids)
    assert repr(alice) == "<Agent 'alice': 24 tokens, 2 entries of history>"


def test_resuming_computes_the_new_message_and_the_one_token_that_was_drawn_and_never_fed(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system="You are as terse as can be.")
        alice.chat("Tell me about blocks.", max_tokens=20)
        for message in ("And tails?", "And what is kept of them on disk?"):
            before = len(alice.tokens)
            done = alice.chat(message, max_tokens=20)
            assert done.usage.cached_tokens == before - 1
            assert done.usage.prompt_tokens == before + len(f"<user>{message}<assistant>")


def test_a_reply_that_ended_by_itself_is_cached_to_its_last_token() -> None:
    with fake_engine(model=FakeModel(choose=says("Hello."))) as engine:
        alice = engine.agent("alice")
        assert alice.chat("Hi").text == "Hello."
        assert alice.chat("Again").usage.cached_tokens == len(chat_prompt(("user", "Hi"))) + len("Hello.")


def test_a_stream_gives_deltas_and_commits_with_the_last(engine: Engine) -> None:
    alice = engine.agent("alice")
    deltas = list(alice.stream("Hi", max_tokens=6))
    last = deltas[-1].completion
    assert last is not None
    assert alice.history[-1] == {"role": "assistant", "content": "".join(delta.text for delta in deltas)}
    assert last.text == alice.history[-1]["content"]


def test_a_message_may_be_a_dict_or_several(engine: Engine) -> None:
    alice = engine.agent("alice")
    alice.chat([{"role": "tool", "content": "42"}, {"role": "user", "content": "So?"}], max_tokens=2)
    alice.chat({"role": "user", "content": "Sure?"}, max_tokens=2)
    assert [entry["role"] for entry in alice.history] == ["tool", "user", "assistant", "user", "assistant"]


@pytest.mark.parametrize(
    "message", [5, None, [], [{"role": "user"}], {"role": "user", "content": 5}, ["a"], {"role": "user", "text": ""}]
)
def test_what_is_no_message_is_refused_and_changes_nothing(engine: Engine, message: Any) -> None:
    alice = engine.agent("alice")
    with pytest.raises(InvalidRequestError, match="message"):
        alice.chat(message)
    assert alice.history == []


def test_plain_text_goes_on_where_it_ended(desk: Desk) -> None:
    with desk.open() as engine:
        bob = engine.agent("bob")
        first = bob.generate("Once upon a time", max_tokens=9)
        second = bob.generate(" and then", max_tokens=4)
        whole = FakeTokenizer().encode("Once upon a time" + first.text + " and then")
        assert is_cold(second, whole)
        assert second.usage.cached_tokens == len("Once upon a time") + 9 - 1
        assert [entry["role"] for entry in bob.history] == ["text", "completion", "text", "completion"]
        assert "".join(entry["content"] for entry in bob.history) == FakeTokenizer().decode(list(bob.tokens))


def test_plain_text_may_be_token_ids_also_from_an_array(engine: Engine) -> None:
    class Array(list[int]):
        def tolist(self) -> list[int]:
            return list(self)

    bob = engine.agent("bob")
    bob.generate([98, 99], max_tokens=1)
    bob.generate(Array([100]), max_tokens=1)
    assert bob.history[0] == {"role": "text", "content": "ab"}
    assert bob.tokens[3] == 100


@pytest.mark.parametrize("prompt", [b"bytes", ["a"], [1.5], [{"role": "user", "content": "Hi"}]])
def test_what_is_no_plain_text_is_refused(engine: Engine, prompt: Any) -> None:
    with pytest.raises(InvalidRequestError, match="plain text is a str or a list of token ids"):
        engine.agent("bob").generate(prompt)


def test_a_stop_string_stays_out_of_plain_text_that_goes_on(engine: Engine) -> None:
    spoken = engine.generate("Q: a", max_tokens=12).text
    stop = spoken[4:6]
    bob = engine.agent("bob")
    done = bob.generate("Q: a", max_tokens=12, stop=stop)
    assert done.finish_reason is FinishReason.STOP
    assert FakeTokenizer().decode(list(bob.tokens)) == "Q: a" + done.text
    after = bob.generate(" Q: b", max_tokens=3)
    assert is_cold(after, FakeTokenizer().encode("Q: a" + done.text + " Q: b"))


def test_appending_computes_context_and_says_nothing(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system="Be terse.")
        alice.append("The sky is green.")
        alice.append("42", role="tool")
        assert [entry["role"] for entry in alice.history] == ["system", "user", "tool"]
        before = len(alice.tokens)
        done = alice.chat("Which colour?", max_tokens=4)
        told = [("system", "Be terse."), ("user", "The sky is green."), ("tool", "42"), ("user", "Which colour?")]
        assert is_cold(done, chat_prompt(*told))
        assert done.usage.cached_tokens == before


def test_appending_plain_text_computes_all_of_it(desk: Desk) -> None:
    with desk.open() as engine:
        bob = engine.agent("bob")
        bob.append("It was a dark night. ")
        assert bob.history == [{"role": "text", "content": "It was a dark night. "}]
        done = bob.generate("And then", max_tokens=4)
        assert done.usage.cached_tokens == len("It was a dark night. ")
        assert is_cold(done, FakeTokenizer().encode("It was a dark night. And then"))


# -- kinds -------------------------------------------------------------------------------------------


def test_the_first_use_decides_what_an_agent_holds(engine: Engine) -> None:
    chat, text, empty = engine.agent("chat"), engine.agent("text"), engine.agent("empty", system="")
    chat.chat("Hi", max_tokens=1)
    text.append("Hi")
    with pytest.raises(AgentKindError, match=r"'chat' holds a chat, which chat\(\) and stream\(\) continue"):
        chat.generate("Hi")
    with pytest.raises(AgentKindError, match=r"'text' holds a text, which generate\(\) continue"):
        text.chat("Hi")
    with pytest.raises(AgentKindError):
        empty.generate("Hi")
    assert [len(agent.history) for agent in (chat, text, empty)] == [2, 1, 1]


def test_without_a_tokenizer_agents_hold_token_ids() -> None:
    def build() -> BlockPoolBatchEngine:
        made = fake_batch_engine()
        made.tokenizer = None
        return made

    with Engine(build, RecordingTelemetry(), MemoryArchive()) as engine:
        bob = engine.agent("bob")
        assert bob.generate([5, 6], max_tokens=2).text == ""
        assert len(bob.tokens) == 4
        assert bob.generate([7], max_tokens=2).usage.cached_tokens == 3
        with pytest.raises(TokenizerRequiredError):
            bob.generate("text")
        with pytest.raises(TokenizerRequiredError, match="plain text"):
            engine.agent("alice").chat("Hi")


# -- finding and making ------------------------------------------------------------------------------


def test_an_agent_is_found_by_its_name(engine: Engine) -> None:
    alice = engine.agent("alice")
    assert engine.agent("alice") is alice
    assert [agent.name for agent in (engine.agent("bob"), *engine.agents())] == ["bob", "alice", "bob"]


def test_an_agent_is_there_with_one_system_message(engine: Engine) -> None:
    alice = engine.agent("alice", system="Be terse.")
    assert engine.agent("alice") is engine.agent("alice", system="Be terse.") is alice
    with pytest.raises(AgentExistsError, match=r"system message 'Be terse\.'; leave system= out"):
        engine.agent("alice", system="Be kind.")


def test_namespaces_have_their_own_agents_and_their_own_blocks(engine: Engine) -> None:
    ours, theirs = engine.agent("alice"), engine.agent("alice", namespace="acme")
    ours.chat("The same text for both of them.", max_tokens=5)
    assert theirs.history == []
    assert theirs.chat("The same text for both of them.", max_tokens=5).usage.cached_tokens == 0
    assert [agent.namespace for agent in engine.agents()] == ["acme", "default"]
    assert engine.agents(namespace="acme") == [theirs]


@pytest.mark.parametrize("name", ["", "x" * 257, "half \ud800", 5, None])
def test_a_name_that_is_none_is_refused(engine: Engine, name: Any) -> None:
    with pytest.raises(InvalidRequestError, match="an agent's name is a str of 1 to 256 bytes"):
        engine.agent(name)
    with pytest.raises(InvalidRequestError, match="a system message is a str, got 5"):
        engine.agent("alice", system=5)  # type: ignore[arg-type]


def test_many_threads_that_ask_for_a_new_agent_get_the_same(engine: Engine) -> None:
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda number: engine.agent(f"agent {number % 4}"), range(400)))
    assert len(set(map(id, found))) == 4


def test_an_agent_keeps_its_engine_open() -> None:
    alice = fake_engine().agent("alice")
    assert alice.chat("Hi", max_tokens=2).finish_reason is FinishReason.LENGTH
    stream = fake_engine().agent("alice").stream("Hi", max_tokens=2)
    assert len(list(stream)) == 2


# -- templates that rewrite history ------------------------------------------------------------------


def test_a_history_that_is_rendered_differently_is_found_out_and_what_matches_is_used_again() -> None:
    desk = Desk(lambda: FakeModel(choose=says("let me see 42")))
    tokenizer = Forgetful()
    with desk.open(tokenizer=tokenizer) as engine:
        alice = engine.agent("alice")
        alice.chat("What is six times seven?")
        assert desk.telemetry.named("agent.history.diverged") == []
        known = alice.tokens
        done = alice.chat("Sure?")
        (event,) = desk.telemetry.named("agent.history.diverged")
        common = len("<user>What is six times seven?<assistant>")
        assert event.facts["agent"] == "alice"
        assert (event.facts["position"], event.facts["expected"]) == (common, known[common])
        assert event.facts["found"] == tokenizer.encode("4")[0]
        assert event.facts["tokens_lost"] == len("let me see 42")
        assert done.usage.cached_tokens == common
        assert tokenizer.decode(list(alice.tokens)) == (
            "<user>What is six times seven?<assistant>42<user>Sure?<assistant>let me see 42"
        )
        assert alice.history[1]["content"] == "let me see 42"


def test_the_answer_to_a_rewritten_history_is_the_cold_one(desk: Desk) -> None:
    tokenizer = Forgetful()
    with desk.open(tokenizer=tokenizer) as engine:
        alice = engine.agent("alice")
        told: list[tuple[str, str]] = []
        for message in ("One", "Two and a bit more", "Three"):
            told.append(("user", message))
            done = alice.chat(message, max_tokens=25)
            assert is_cold(done, chat_prompt(*told, tokenizer=tokenizer))
            told.append(("assistant", done.text))


def test_points_in_a_rewritten_history_still_mean_the_same_messages() -> None:
    desk = Desk(lambda: FakeModel(choose=says("let me see 42")))
    with desk.open(tokenizer=Forgetful()) as engine:
        alice = engine.agent("alice")
        for message in ("One", "Two", "Three"):
            alice.chat(message)
            alice.checkpoint(message)
        alice.rewind("Two")
        assert [entry["content"] for entry in alice.history] == ["One", "let me see 42", "Two", "let me see 42"]
        assert Forgetful().decode(list(alice.tokens)) == "<user>One<assistant>42<user>Two<assistant>"
        told = "<user>One<assistant>42<user>Two<assistant>42<user>"  # and then "Three" where now is "Four"
        assert alice.chat("Four").usage.cached_tokens == len(told)


# -- restart -----------------------------------------------------------------------------------------


def test_after_a_restart_every_agent_stands_at_its_last_turn_and_goes_on_as_if_nothing_had_been(desk: Desk) -> None:
    messages = ("Tell me about blocks.", "And tails?", "And what is kept of them on disk?")
    with desk.open() as engine:
        unbroken = engine.agent("unbroken", system="Be terse.", namespace="unbroken")
        replies = [unbroken.chat(message, max_tokens=9).token_ids for message in messages]
    records = []
    for i, message in enumerate(messages):
        with desk.open() as engine:
            alice = engine.agent("alice") if i else engine.agent("alice", system="Be terse.")
            assert [agent.record for agent in engine.agents(namespace="default")][:1] == records[-1:] or not i
            done = alice.chat(message, max_tokens=9)
            assert done.token_ids == replies[i]
            assert done.usage.cached_tokens == (len(records[-1].token_ids) - 1 if i else 0)
            records.append(alice.record)


def test_checkpoints_and_forks_outlive_the_process(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.chat("One", max_tokens=9)
        alice.checkpoint("one")
        alice.chat("Two", max_tokens=9)
        alice.fork("bob", at="one")
    with desk.open() as engine:
        assert [agent.name for agent in engine.agents()] == ["alice", "bob"]
        assert engine.agent("bob").history == engine.agent("alice").history[:2]
        engine.agent("alice").rewind("one")
        assert engine.agent("alice").checkpoints == engine.agent("bob").checkpoints == ("one",)


def test_an_agent_of_another_model_is_refused_with_both_fingerprints_named() -> None:
    desk = Desk()
    with desk.open() as engine:
        engine.agent("alice").chat("Hi", max_tokens=2)
    other = FakeModel()
    other.profile = attrs.evolve(other.profile, fingerprint="e" * 64, name="other")
    with desk.open(model=other) as engine:
        assert engine.agents() == []
        with pytest.raises(AgentOfOtherModelError) as caught:
            engine.agent("alice")
        ours, theirs = f"other ({'e' * 64})", f"fake ({FakeModel().profile.fingerprint})"
        assert (caught.value.ours, caught.value.theirs) == (ours, theirs)
        assert ours in str(caught.value)
        assert theirs in str(caught.value)
        engine.agent("bob").chat("Hi", max_tokens=2)
        with pytest.raises(AgentOfOtherModelError):
            engine.agent("bob").fork("alice")
    with desk.open() as engine:
        assert [agent.name for agent in engine.agents()] == ["alice"]
        assert len(engine.agent("alice").history) == 2
