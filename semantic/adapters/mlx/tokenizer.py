"""The tokenizer port around an mlx_lm tokenizer: the same ids in, the same text out as
``mlx_lm.generate``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlx_lm.tokenizer_utils import TokenizerWrapper

from semantic.application.ports.tokenizer import NO_OPTIONS, ChatMessage, Detokenizer, Tokenizer
from semantic.domain.errors import ChatTemplateError, InvalidRequestError
from semantic.domain.value_objects import ChatOptions


class MLXTokenizer(Tokenizer):
    """Takes what ``mlx_lm.load`` returns, or a plain transformers tokenizer, which mlx_lm would wrap as
    well.
    """

    def __init__(self, tokenizer: Any) -> None:
        wrapped = isinstance(tokenizer, TokenizerWrapper)
        self._tokenizer: Any = tokenizer if wrapped else TokenizerWrapper(tokenizer)

    @property
    def eos_token_ids(self) -> frozenset[int]:
        return frozenset(self._tokenizer.eos_token_ids)

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        bos = self._tokenizer.bos_token
        special = not continues and (bos is None or not text.startswith(bos))
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=special))
        except (UnicodeEncodeError, TypeError) as exc:
            raise InvalidRequestError(f"the prompt is no valid Unicode text: {exc}") from exc

    def encode_chat(self, messages: Sequence[ChatMessage], options: ChatOptions = NO_OPTIONS) -> list[int]:
        if not self._tokenizer.has_chat_template:
            raise ChatTemplateError(
                "this model's tokenizer has no chat template; pass the prompt as one string or as token ids"
            )
        given = options.template_kwargs | ({"tools": options.tools} if options.tools else {})
        try:
            return list(self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, **given))
        except Exception as exc:  # a template raises whatever its author chose
            raise ChatTemplateError(
                f"the chat template refused these messages ({type(exc).__name__}: {exc}); each is "
                '{"role": "system" | "user" | "assistant", "content": "..."}'
                + (f", and the options were {sorted(given)}" if given else "")
            ) from exc

    def describe_tool(self, function: Callable[..., Any]) -> Mapping[str, Any]:
        """As ``apply_chat_template`` describes functions."""
        from transformers.utils import get_json_schema  # takes its time, and few pass functions

        try:
            return dict(get_json_schema(function))
        except Exception as exc:
            raise ChatTemplateError(f"the function {function!r} can't be described as a tool: {exc}") from exc

    def decode(self, token_ids: Sequence[int]) -> str:
        """Through the streaming decoder, whose treatment of the first space differs from the tokenizer's
        own.
        """
        decoder = self.detokenizer()
        return "".join([*(decoder.add(token_id) for token_id in token_ids), decoder.finish()])

    def detokenizer(self) -> Detokenizer:
        return _Streaming(self._tokenizer.detokenizer)  # mlx_lm makes a copy with a state of its own


class _Streaming(Detokenizer):
    """mlx_lm's streaming detokenizer, read the way ``stream_generate`` reads it."""

    def __init__(self, detokenizer: Any) -> None:
        self._detokenizer = detokenizer

    def add(self, token_id: int) -> str:
        self._detokenizer.add_token(token_id)
        return str(self._detokenizer.last_segment)

    def finish(self) -> str:
        self._detokenizer.finalize()
        return str(self._detokenizer.last_segment)
