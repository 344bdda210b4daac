"""What a chat template is given besides the messages."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from semantic.domain.errors import InvalidRequestError

_OURS = ("conversation", "tools", "tokenize", "add_generation_prompt", "return_dict", "return_tensors")


@frozen
class ChatOptions:
    """Tools and keyword arguments for a chat template, kept as JSON: fixed, comparable, and in the order given.

    Make them with :meth:`of`. ``tools`` are JSON schemas as ``apply_chat_template`` takes them; ``template_kwargs`` are
    what this model's template knows (``enable_thinking`` and the like).
    """

    tools_json: str = "[]"
    template_kwargs_json: str = "{}"

    @classmethod
    def of(
        cls, tools: Sequence[Mapping[str, Any]] | None = None, template_kwargs: Mapping[str, Any] | None = None
    ) -> "ChatOptions":
        """Raises :class:`InvalidRequestError` for what is no list of JSON objects, or no keyword arguments."""
        tools = () if tools is None else tools
        kwargs = {} if template_kwargs is None else template_kwargs
        if isinstance(tools, Mapping | str | bytes) or not isinstance(tools, Sequence):
            raise InvalidRequestError(f"tools is a list of JSON schemas (dict), got {type(tools).__name__}")
        for tool in tools:
            if not isinstance(tool, Mapping) or not tool:
                raise InvalidRequestError(f"a tool is a JSON schema (dict), got {tool!r}")
        if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
            raise InvalidRequestError(f"chat_template_kwargs is a dict of keyword arguments, got {kwargs!r}")
        for name in sorted(set(kwargs).intersection(_OURS)):
            raise InvalidRequestError(
                f"chat_template_kwargs may not hold {name!r}, which the engine passes itself"
                + (": give tools=" if name == "tools" else "")
            )
        return cls(_as_json("tools", list(map(dict, tools))), _as_json("chat_template_kwargs", dict(kwargs)))

    @property
    def tools(self) -> list[dict[str, Any]]:
        """A copy of the tools."""
        return list(json.loads(self.tools_json))

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """A copy of the keyword arguments."""
        return dict(json.loads(self.template_kwargs_json))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.tools or self.template_kwargs)


def _as_json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{name} must be JSON, so that agents can keep them: {error}") from error
