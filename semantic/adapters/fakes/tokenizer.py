"""A tokenizer of bytes: text is UTF-8, token ``b + 1`` is byte ``b``, and token 0 ends a sequence."""

import codecs
from collections.abc import Sequence

from semantic.application.ports.tokenizer import ChatMessage
from semantic.domain.errors import ChatTemplateError

END = 0
VOCAB_SIZE = 257


class FakeTokenizer:
    """Every string round-trips; multi-byte characters span tokens, as with real byte-level vocabularies."""

    eos_token_ids = frozenset({END})

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """One token for each UTF-8 byte."""
        return [byte + 1 for byte in text.encode()]

    def encode_chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        """``<role>content`` for each message, then ``<assistant>``."""
        try:
            rendered = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        except (KeyError, TypeError) as error:
            raise ChatTemplateError(f"a chat message is a mapping with role and content: {error!r}") from error
        return self.encode(rendered + "<assistant>")

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
