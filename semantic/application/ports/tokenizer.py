"""The tokenizer port."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from semantic.domain.value_objects import ChatOptions

NO_OPTIONS = ChatOptions()

ChatMessage = Mapping[str, Any]
"""``{"role": ..., "content": ...}`` as the tokenizer's chat template takes it."""


class Detokenizer(Protocol):
    """Turns a growing list of token ids into text. Holds back bytes of an unfinished character."""

    def add(self, token_id: int) -> str:
        """Take one more token and return the text that became certain with it (maybe empty)."""

    def finish(self) -> str:
        """Return what was held back. Nothing may be added afterwards."""


class Tokenizer(Protocol):
    """Text to token ids and back, exactly as ``mlx_lm.generate`` does it."""

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end a sequence."""

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Encode a plain prompt: special tokens are added unless the text starts with the BOS token.

        Text that ``continues`` another gets none.
        """

    def encode_chat(self, messages: Sequence[ChatMessage], options: ChatOptions = NO_OPTIONS) -> list[int]:
        """Render messages through the chat template with a generation prompt, as ``apply_chat_template`` does.

        What the template makes of the options, or leaves out, is its own affair. Raises ``ChatTemplateError``.
        """

    def describe_tool(self, function: Callable[..., Any]) -> Mapping[str, Any]:
        """The JSON schema of a function that is a tool. Raises ``ChatTemplateError`` where hints or docs lack."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of finished token ids."""

    def detokenizer(self) -> Detokenizer:
        """A fresh incremental decoder; its pieces joined equal what ``mlx_lm.stream_generate`` yields."""
