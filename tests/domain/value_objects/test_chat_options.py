"""What may be passed to a chat template besides messages."""

from typing import Any

import pytest

from semantic.domain.errors import InvalidRequestError
from semantic.domain.value_objects import ChatOptions

TOOL = {"type": "function", "function": {"name": "weather"}}


def test_options_are_values_that_whoever_gave_or_got_them_cannot_change() -> None:
    tool: dict[str, Any] = {"type": "function", "function": {"name": "weather"}}
    options = ChatOptions.of([tool], {"enable_thinking": False})
    tool["function"]["name"] = "time"
    options.tools[0]["type"] = "other"
    assert options.tools == [TOOL]
    assert {options, ChatOptions.of((TOOL,), {"enable_thinking": False})} == {options}


def test_options_without_tools_and_arguments_are_none() -> None:
    assert not ChatOptions.of([], {})
    assert ChatOptions.of(None, None) == ChatOptions.of([], {}) == ChatOptions()
    assert ChatOptions.of([TOOL])
    assert ChatOptions.of(None, {"documents": []})


def test_the_order_of_keys_is_kept_for_the_template() -> None:
    assert list(ChatOptions.of([{"b": 1, "a": 2}]).tools[0]) == ["b", "a"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tools": TOOL}, "tools is a list of JSON schemas"),
        ({"tools": "weather"}, "tools is a list of JSON schemas"),
        ({"tools": ["weather"]}, "a tool is a JSON schema"),
        ({"tools": [{}]}, "a tool is a JSON schema"),
        ({"tools": [{"name": object()}]}, "tools must be JSON"),
        ({"tools": [{"limit": float("nan")}]}, "tools must be JSON"),
        ({"template_kwargs": ["enable_thinking"]}, "chat_template_kwargs is a dict"),
        ({"template_kwargs": {1: 2}}, "chat_template_kwargs is a dict"),
        ({"template_kwargs": {"date": object()}}, "chat_template_kwargs must be JSON"),
        ({"template_kwargs": {"tokenize": False}}, "'tokenize'"),
        ({"template_kwargs": {"tools": []}}, "give tools="),
    ],
)
def test_what_no_template_can_take_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        ChatOptions.of(**given)
