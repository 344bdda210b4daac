"""From what callers pass for a chat template to what is kept of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from semantic.application.ports.tokenizer import Tokenizer
from semantic.domain.errors import TokenizerRequiredError
from semantic.domain.value_objects import ChatOptions

Tools = Sequence[Mapping[str, Any] | Callable[..., Any]]
"""JSON schemas, or functions with type hints and a docstring that says what each argument is."""


def chat_options(
    tokenizer: Tokenizer | None, tools: Tools | None, template_kwargs: Mapping[str, Any] | None
) -> ChatOptions:
    """Tools as JSON schemas, and keyword arguments, checked.

    Raises :class:`~semantic.domain.errors.InvalidRequestError`, and :class:`TokenizerRequiredError` where there is no
    template.
    """
    if isinstance(tools, Sequence) and not isinstance(tools, str):
        tools = [_schema(tokenizer, tool) if callable(tool) else tool for tool in tools]
    options = ChatOptions.of(tools, template_kwargs)  # type: ignore[arg-type]
    if options and tokenizer is None:
        raise _no_tokenizer()
    return options


def _schema(tokenizer: Tokenizer | None, function: Callable[..., Any]) -> Mapping[str, Any]:
    if tokenizer is None:
        raise _no_tokenizer()
    return tokenizer.describe_tool(function)


def _no_tokenizer() -> TokenizerRequiredError:
    return TokenizerRequiredError("tools and chat_template_kwargs need a chat template, and there is no tokenizer")
