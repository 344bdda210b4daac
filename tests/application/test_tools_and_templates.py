"""Tools and template arguments: on their way to the template of one prompt, and as part of what an agent is."""

from pathlib import Path
from typing import Any

import pytest
from talking import Desk, is_cold

from semantic.adapters.fakes import FakeTokenizer, RecordingTelemetry, fake_batch_engine, fake_engine
from semantic.adapters.fakes.archive import MemoryArchive
from semantic.application.engine import Engine
from semantic.domain.errors import AgentExistsError, ChatTemplateError, InvalidRequestError, TokenizerRequiredError
from semantic.domain.value_objects import AgentKind, ChatOptions

WEATHER = {"type": "function", "function": {"name": "weather"}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
HELLO = [{"role": "user", "content": "Hi"}]
TERSE = {"enable_thinking": False}


def rendered(tools: Any, template_kwargs: Any, *messages: tuple[str, str]) -> list[int]:
    said = [{"role": role, "content": content} for role, content in messages]
    return FakeTokenizer().encode_chat(said, ChatOptions.of(tools, template_kwargs))


# -- one prompt --------------------------------------------------------------------------------------


def test_messages_are_rendered_with_tools_and_arguments_by_every_way_of_asking() -> None:
    expected = rendered([WEATHER], TERSE, ("user", "Hi"))
    given: dict[str, Any] = {"tools": [WEATHER], "chat_template_kwargs": TERSE}
    with fake_engine() as engine:
        assert engine.encode(HELLO, **given) == expected
        assert is_cold(engine.generate(HELLO, max_tokens=4, **given), expected)
        assert all(is_cold(done, expected) for done in engine.batch_generate([HELLO] * 2, max_tokens=4, **given))
        *_, last = engine.stream(HELLO, max_tokens=4, **given)
        assert last.completion is not None
        assert is_cold(last.completion, expected)


def test_a_function_is_a_tool_as_its_schema() -> None:
    def weather(city: str) -> str:
        """How the weather is."""
        return city

    with fake_engine() as engine:
        schema = FakeTokenizer().describe_tool(weather)
        assert engine.encode(HELLO, tools=[weather]) == engine.encode(HELLO, tools=[schema])


def test_a_function_that_says_nothing_of_itself_is_refused() -> None:
    with fake_engine() as engine, pytest.raises(ChatTemplateError, match="no docstring"):
        engine.generate(HELLO, tools=[lambda city: city])


@pytest.mark.parametrize("prompt", ["Hi", [1, 2, 3]])
@pytest.mark.parametrize("given", [{"tools": [WEATHER]}, {"chat_template_kwargs": TERSE}], ids=str)
def test_options_with_a_prompt_that_no_template_renders_are_refused(prompt: Any, given: dict[str, Any]) -> None:
    with fake_engine() as engine:
        with pytest.raises(InvalidRequestError, match="go with a prompt of chat messages"):
            engine.generate(prompt, **given)
        empty = {name: type(value)() for name, value in given.items()}
        assert engine.generate(prompt, max_tokens=2, **empty).usage.completion_tokens == 2


def test_without_a_tokenizer_there_is_no_template_for_them() -> None:
    batch_engine = fake_batch_engine()
    batch_engine.tokenizer = None
    with Engine(lambda: batch_engine, RecordingTelemetry(), MemoryArchive()) as engine:
        for tools in ([WEATHER], [rendered]):
            with pytest.raises(TokenizerRequiredError):
                engine.agent("alice", tools=tools)


# -- agents ------------------------------------------------------------------------------------------


def test_an_agents_every_turn_is_rendered_with_its_tools_and_arguments(desk: Desk) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", system="Be terse.", tools=[WEATHER], chat_template_kwargs=TERSE)
        first = alice.chat("Hi", max_tokens=5)
        second = alice.chat("And?", max_tokens=5)
    told = [("system", "Be terse."), ("user", "Hi")]
    assert is_cold(first, rendered([WEATHER], TERSE, *told))
    assert is_cold(second, rendered([WEATHER], TERSE, *told, ("assistant", first.text), ("user", "And?")))
    assert second.usage.cached_tokens == first.usage.prompt_tokens + 4


def test_after_a_restart_a_fork_and_a_journey_they_are_still_there(desk: Desk, tmp_path: Path) -> None:
    with desk.open() as engine:
        alice = engine.agent("alice", tools=[WEATHER], chat_template_kwargs=TERSE)
        first = alice.chat("Hi", max_tokens=5)
    with desk.open() as engine:
        alice = engine.agent("alice")
        alice.export(tmp_path / "alice.agent")
        others = [alice.fork("bob"), engine.import_agent(tmp_path / "alice.agent", name="carol")]
        expected = rendered([WEATHER], TERSE, ("user", "Hi"), ("assistant", first.text), ("user", "And?"))
        for agent in (alice, *others):
            assert agent.record.chat.tools == [WEATHER]
            assert is_cold(agent.chat("And?", max_tokens=5), expected)


def test_an_agent_is_there_with_one_set_of_tools_and_arguments(desk: Desk) -> None:
    with desk.open() as engine:
        engine.agent("alice", tools=[WEATHER], chat_template_kwargs=TERSE)
        engine.agent("bob", system="Be terse.")
    with desk.open() as engine:
        alice = engine.agent("alice")
        assert engine.agent("alice", tools=[WEATHER], chat_template_kwargs={"enable_thinking": False}) is alice
        for other in ({"tools": [CLOCK]}, {"tools": []}, {"chat_template_kwargs": {"enable_thinking": True}}):
            (name,) = other
            with pytest.raises(AgentExistsError, match=rf"leave {name}= out"):
                engine.agent("alice", **other)
        with pytest.raises(AgentExistsError, match="leave tools= out"):
            engine.agent("bob", tools=[WEATHER])
        assert engine.agent("bob", tools=[], chat_template_kwargs={}).record.chat == ChatOptions()


def test_an_agent_with_tools_holds_a_chat(desk: Desk) -> None:
    with desk.open() as engine:
        assert engine.agent("alice", tools=[WEATHER]).record.kind is AgentKind.CHAT


def test_agents_share_a_system_message_where_they_share_the_tools_before_it(desk: Desk) -> None:
    with desk.open() as engine:
        system = "You are as terse as can be, and no terser."
        alice = engine.agent("alice", system=system, tools=[WEATHER])
        alice.chat("Hi", max_tokens=3)
        same = engine.agent("bob", system=system, tools=[WEATHER]).chat("Yo", max_tokens=3)
        other = engine.agent("carol", system=system, tools=[CLOCK]).chat("Yo", max_tokens=3)
    assert same.usage.cached_tokens >= len(rendered([WEATHER], {}, ("system", system))) - len("<assistant>")
    assert other.usage.cached_tokens < same.usage.cached_tokens


@pytest.mark.parametrize(
    "bad", [{"tools": WEATHER}, {"tools": [3]}, {"chat_template_kwargs": {"tokenize": 1}}], ids=str
)
def test_bad_shapes_are_refused_and_make_no_agent(bad: dict[str, Any]) -> None:
    with fake_engine() as engine:
        with pytest.raises(InvalidRequestError):
            engine.agent("alice", **bad)
        assert engine.agents() == []
