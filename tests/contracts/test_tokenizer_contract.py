"""What every tokenizer does: the fake, and one of transformers inside mlx_lm's wrapper."""

from typing import Any

import pytest

from semantic.adapters.fakes import FakeTokenizer
from semantic.application.ports.tokenizer import Tokenizer
from semantic.domain.errors import ChatTemplateError
from semantic.domain.value_objects import ChatOptions

TEXTS = ["a", "hello world", "two  spaces ", "line\nbreak", "日本語 and ünïcödé", "🦜🦜", ""]
TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}{% endif %}"
    "{% if greeting is defined %}<with>{{ {'greeting': greeting} | tojson }}{% endif %}"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def bytes_of_transformers() -> Tokenizer:
    from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, TokenizerWrapper
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Fast
    from transformers import PreTrainedTokenizerFast

    from semantic.adapters.mlx.tokenizer import MLXTokenizer

    vocabulary = {token: index for index, token in enumerate(["</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    fast: Any = Fast(models.BPE(vocabulary, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="</s>")
    wrapped.chat_template = TEMPLATE
    return MLXTokenizer(TokenizerWrapper(wrapped, BPEStreamingDetokenizer))


@pytest.fixture(scope="module", params=["fake", pytest.param("transformers", marks=pytest.mark.mlx)])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return FakeTokenizer() if request.param == "fake" else bytes_of_transformers()


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_way_to_token_ids_and_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_detokenizer_joined_are_the_text(tokenizer: Tokenizer, text: str) -> None:
    detokenizer = tokenizer.detokenizer()
    pieces = [detokenizer.add(token_id) for token_id in tokenizer.encode(text)]
    assert "".join([*pieces, detokenizer.finish()]) == text


def test_an_unfinished_character_is_held_back(tokenizer: Tokenizer) -> None:
    detokenizer = tokenizer.detokenizer()
    assert [detokenizer.add(token_id) for token_id in tokenizer.encode("日")[:2]] == ["", ""]
    assert detokenizer.finish() != ""


def test_two_detokenizers_do_not_share_their_state(tokenizer: Tokenizer) -> None:
    first, second = tokenizer.detokenizer(), tokenizer.detokenizer()
    first.add(tokenizer.encode("日")[0])
    assert "".join([*map(second.add, tokenizer.encode("ab")), second.finish()]) == "ab"


def test_some_token_ends_a_sequence_and_plain_text_does_not_contain_it(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_token_ids
    assert not tokenizer.eos_token_ids & set(tokenizer.encode("plain text"))


def test_messages_are_rendered_with_a_generation_prompt(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_chat([{"role": "user", "content": "Hi"}])
    assert tokenizer.decode(ids) == "<user>Hi<assistant>"


def test_the_template_gets_the_tools_and_its_own_arguments(tokenizer: Tokenizer) -> None:
    options = ChatOptions.of([WEATHER], {"greeting": "Olá"})
    ids = tokenizer.encode_chat([{"role": "user", "content": "Hi"}], options)
    tools = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]'
    assert tokenizer.decode(ids) == f'<tools>{tools}<with>{{"greeting": "Olá"}}<user>Hi<assistant>'


def weather(city: str) -> str:
    """How the weather is.

    Args:
        city: Where.
    """
    return city


def nameless(city):  # type: ignore[no-untyped-def]
    return city


def test_a_function_is_described_by_its_name_and_docstring(tokenizer: Tokenizer) -> None:
    schema = tokenizer.describe_tool(weather)
    assert schema["type"] == "function"
    assert schema["function"]["name"] == "weather"
    assert schema["function"]["description"].startswith("How the weather is.")


def test_a_function_without_a_docstring_is_a_named_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ChatTemplateError, match="nameless"):
        tokenizer.describe_tool(nameless)


def test_messages_that_cannot_be_rendered_are_a_named_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ChatTemplateError):
        tokenizer.encode_chat(["no message"])  # type: ignore[list-item]
