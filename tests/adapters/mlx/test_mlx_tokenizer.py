"""Text in and out exactly as mlx_lm does it."""

from typing import Any

import pytest
from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, NaiveStreamingDetokenizer, TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from semantic.adapters.mlx.tokenizer import MLXTokenizer
from semantic.domain.errors import ChatTemplateError, InvalidRequestError
from semantic.domain.value_objects import ChatOptions

pytestmark = pytest.mark.mlx

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}:{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<s>{% endif %}"
)


def fast(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a BOS token that encoding adds."""
    tokens = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġa"]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, [("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens[:2]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    wrapped.chat_template = template
    return wrapped


def tokenizer(template: str | None = TEMPLATE, detokenizer: Any = BPEStreamingDetokenizer) -> MLXTokenizer:
    return MLXTokenizer(TokenizerWrapper(fast(template), detokenizer, eos_token_ids=[1, 7]))


def test_bos_is_added_unless_the_text_starts_with_it() -> None:
    plain, with_bos = tokenizer().encode("ab"), tokenizer().encode("<s>ab")
    assert plain == with_bos
    assert plain[0] == 0
    assert plain.count(0) == 1


def test_a_prompt_is_encoded_as_mlx_lms_stream_generate_encodes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    import mlx_lm

    module = sys.modules["mlx_lm.generate"]
    seen: list[list[int]] = []

    def no_steps(prompt: Any, *_: Any, **__: Any) -> Any:
        seen.append(prompt.tolist())
        yield 1, None

    monkeypatch.setattr(module, "generate_step", no_steps)
    wrapper = TokenizerWrapper(fast(), BPEStreamingDetokenizer)
    for text in ("hello", "<s>hello", " two words", "ünïcödé ☃ 日本"):
        list(mlx_lm.stream_generate(None, wrapper, text, max_tokens=2))
        assert seen.pop() == MLXTokenizer(wrapper).encode(text)


def test_every_end_of_sequence_token_counts() -> None:
    assert tokenizer().eos_token_ids == frozenset({1, 7})


def test_a_plain_transformers_tokenizer_is_wrapped_as_mlx_lm_wraps_it() -> None:
    assert MLXTokenizer(fast()).eos_token_ids == frozenset({1})


def test_chat_messages_go_through_the_template_with_a_generation_prompt() -> None:
    ids = tokenizer().encode_chat([{"role": "user", "content": "hi"}])
    assert fast().decode(ids) == "<s>user:hi<s>"


def test_a_tokenizer_without_a_template_says_so() -> None:
    with pytest.raises(ChatTemplateError, match="has no chat template"):
        tokenizer(None).encode_chat([{"role": "user", "content": "hi"}])


def test_messages_that_the_template_refuses_are_the_callers_error() -> None:
    refusing = "{{ raise_exception('only users may speak') }}"
    with pytest.raises(ChatTemplateError, match="only users may speak"):
        tokenizer(refusing).encode_chat([{"role": "system", "content": "hi"}])


def test_tools_and_arguments_are_rendered_as_apply_chat_template_renders_them() -> None:
    template = TEMPLATE + "{{ tools | tojson }}{{ enable_thinking }}"

    def weather(city: str) -> str:
        """How the weather is.

        Args:
            city: Where.
        """
        return city

    theirs = TokenizerWrapper(fast(template), BPEStreamingDetokenizer)
    messages = [{"role": "user", "content": "hi"}]
    expected = theirs.apply_chat_template(
        messages, add_generation_prompt=True, tools=[weather, {"type": "x"}], enable_thinking=False
    )
    ours = tokenizer(template)
    options = ChatOptions.of([ours.describe_tool(weather), {"type": "x"}], {"enable_thinking": False})
    assert ours.encode_chat(messages, options) == expected


def test_arguments_that_the_template_refuses_are_named_beside_its_words() -> None:
    refusing = "{% if tools %}{{ raise_exception('no tools here') }}{% endif %}"
    with pytest.raises(ChatTemplateError, match=r"no tools here.*\['tools'\]"):
        tokenizer(refusing).encode_chat([{"role": "user", "content": "hi"}], ChatOptions.of([{"type": "x"}]))


def test_text_that_is_no_unicode_is_the_callers_error() -> None:
    with pytest.raises(InvalidRequestError, match="no valid Unicode"):
        tokenizer().encode("\ud800")


TEXTS = ["hello a a", " leading space", "日本語 ☃ 🎉 ünï", "line\nline\n\n", "trailing ", "", "a" * 50]


@pytest.mark.parametrize("detokenizer", [BPEStreamingDetokenizer, NaiveStreamingDetokenizer])
@pytest.mark.parametrize("text", TEXTS)
def test_streamed_pieces_joined_are_mlx_lms_text(detokenizer: Any, text: str) -> None:
    ours = tokenizer(detokenizer=detokenizer)
    ids = fast().encode(text, add_special_tokens=False)
    theirs = TokenizerWrapper(fast(), detokenizer).detokenizer
    for token_id in ids:
        theirs.add_token(token_id)
    theirs.finalize()
    stream = ours.detokenizer()
    pieces = [*(stream.add(token_id) for token_id in ids), stream.finish()]
    assert "".join(pieces) == theirs.text
    assert ours.decode(ids) == theirs.text
    assert not any("\ufffd" in piece for piece in pieces)


def test_an_unfinished_character_is_told_only_at_the_end() -> None:
    stream = tokenizer().detokenizer()
    first, *_ = fast().encode("☃", add_special_tokens=False)
    assert stream.add(first) == ""
    assert stream.finish() == "\ufffd"


def test_two_streams_at_once_do_not_mix() -> None:
    ours = tokenizer()
    first, second = ours.detokenizer(), ours.detokenizer()
    texts = {first: "", second: ""}
    for left, right in zip(ours.encode("<s>one ☃ left"), ours.encode("<s>two 日 right"), strict=False):
        texts[first] += first.add(left)
        texts[second] += second.add(right)
    assert (texts[first], texts[second][:9]) == ("<s>one ☃ left", "<s>two 日 ")
