"""A tokenizer of bytes: text is UTF-8, token ``b + 1`` is byte ``b``, and token 0 ends a sequence."""

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from semantic.application.ports.tokenizer import NO_OPTIONS, ChatMessage
from semantic.domain.errors import ChatTemplateError
from semantic.domain.value_objects import ChatOptions

END = 0
VOCAB_SIZE = 257


class FakeTokenizer:
    """Every string round-trips; multi-byte characters span tokens, as with real byte-level vocabularies."""

    eos_token_ids = frozenset({END})

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """One token for each UTF-8 byte."""
        return [byte + 1 for byte in text.encode()]

    def encode_chat(self, messages: Sequence[ChatMessage], options: ChatOptions = NO_OPTIONS) -> list[int]:
        """``<role>content`` for each message, then ``<assistant>``; options come before, as ``<tools>`` and ``<with>``.

        They are written as JSON.
        """
        try:
            rendered = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        except (KeyError, TypeError) as error:
            raise ChatTemplateError(f"a chat message is a mapping with role and content: {error!r}") from error
        tools = f"<tools>{options.tools_json}" if options.tools else ""
        template_kwargs = f"<with>{options.template_kwargs_json}" if options.template_kwargs else ""
        return self.encode(tools + template_kwargs + rendered + "<assistant>")

    def describe_tool(self, function: Callable[..., Any]) -> Mapping[str, Any]:
        """Its name and its docstring, which it must have."""
        if not function.__doc__:
            raise ChatTemplateError(f"the function {function.__name__} has no docstring")
        return {"type": "function", "function": {"name": function.__name__, "description": function.__doc__}}

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text; bytes that form no character become U+FFFD."""
        return bytes(token - 1 for token in token_ids if token != END).decode(errors="replace")

    def detokenizer(self) -> "FakeDetokenizer":
        """A fresh incremental decoder."""
        return FakeDetokenizer()


class FakeDetokenizer:
    """Decodes byte by byte and holds back an unfinished character."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token_id: int) -> str:
        """The characters that became complete."""
        return self._decoder.decode(bytes([token_id - 1]))

    def finish(self) -> str:
        """U+FFFD for what stayed incomplete, or nothing."""
        return self._decoder.decode(b"", final=True)
