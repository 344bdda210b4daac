"""A Gemma vocabulary in a GGUF file tokenises as sentencepiece itself does."""

import io
from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.mlx.tokenizer import MLXTokenizer
from semantic.adapters.model_sources.gguf_tokenizer import build_tokenizer

pytestmark = pytest.mark.mlx

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the other foxes sit together in the thicket.",
    "for index in range(10):\n    print(index, values[index])\n\n  return 2024",
    "Weather and leather; neither feather nor heather gathers together there in the summer.",
]
SPACES = ["\u2581" * width for width in range(2, 9)]
NEWLINES = ["\n", "\n\n", "\n\n\n"]
TURNS = ["<start_of_turn>", "<end_of_turn>"]
TEXTS = [
    "the other fox",
    " leading, and  two   three     five          ten spaces",
    "a\n\n\n\n\nb\n    c  \n",
    "<start_of_turn>user\nthe fox<end_of_turn>\n<start_of_turn>model\n",
    "Zürich ☃ 日本語\t1234",
    "  ",
    "",
]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "<start_of_turn>model"
)


@pytest.fixture(scope="module")
def trained() -> Any:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 5),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        normalization_rule_name="identity",
        split_digits=True,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=[*TURNS, *NEWLINES, *SPACES],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def metadata(trained: Any, *, spaces_as_they_are: bool) -> dict[str, Any]:
    """As the conversion to GGUF writes it: runs of spaces as spaces, or as the pieces that they were trained as."""
    ids = range(trained.get_piece_size())
    tokens = [trained.id_to_piece(i) for i in ids]
    defined = {*NEWLINES, *SPACES}
    kinds = [
        2
        if trained.is_unknown(i)
        else 3
        if trained.is_control(i) or tokens[i] in TURNS
        else 6
        if trained.is_byte(i)
        else 4
        if tokens[i] in defined
        else 1
        for i in ids
    ]
    scores = [-1000.0 if kinds[i] in (3, 4) else trained.get_score(i) for i in ids]
    if spaces_as_they_are:
        tokens = [token.replace("\u2581", " ") if token in defined else token for token in tokens]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": TEMPLATE,
    }


@pytest.mark.parametrize("spaces_as_they_are", [True, False])
@pytest.mark.parametrize("text", [*CORPUS, *TEXTS])
def test_ids_and_text_are_sentencepieces_own(trained: Any, text: str, spaces_as_they_are: bool) -> None:
    tokenizer = build_tokenizer(metadata(trained, spaces_as_they_are=spaces_as_they_are), Path("x.gguf"))
    ids = tokenizer.encode(text)
    assert ids == [2, *trained.encode(text)]
    assert tokenizer.decode(ids[1:]) == text
    assert MLXTokenizer(tokenizer).decode(ids[1:]) == text


def test_a_chat_begins_with_one_bos_and_a_turn_or_a_sequence_ends_it(trained: Any) -> None:
    tokenizer = build_tokenizer(metadata(trained, spaces_as_they_are=True), Path("x.gguf"))
    ids = MLXTokenizer(tokenizer).encode_chat([{"role": "user", "content": "the fox"}])
    assert ids == [2, *trained.encode("<start_of_turn>user\nthe fox<end_of_turn>\n<start_of_turn>model")]
    assert tokenizer.eos_token_ids == {1, trained.piece_to_id("<end_of_turn>")}
