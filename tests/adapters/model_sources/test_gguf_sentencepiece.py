"""A SentencePiece vocabulary in a GGUF file tokenises as sentencepiece itself does."""

import io
from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.mlx.tokenizer import MLXTokenizer
from semantic.adapters.model_sources.gguf_tokenizer import build_tokenizer
from semantic.domain.errors import ModelDamagedError

pytestmark = pytest.mark.mlx

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the other foxes sit together in the thicket.",
    "There is nothing in this world that cannot be told in a thousand and one words, or more.",
    "for index in range(10): print(index, values[index])",
    "Weather and leather; neither feather nor heather gathers together there in the summer.",
]
TEXTS = ["the other fox", "  two  spaces ", "Zürich ☃ 日本語", "range(10)\n\tprint", "in", ""]


@pytest.fixture(scope="module")
def trained() -> Any:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 5),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def metadata(trained: Any) -> dict[str, Any]:
    """As the conversion to GGUF writes it."""
    ids = range(trained.get_piece_size())
    kinds = [
        2 if trained.is_unknown(i) else 3 if trained.is_control(i) else 6 if trained.is_byte(i) else 1 for i in ids
    ]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [trained.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [trained.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


@pytest.mark.parametrize("text", [*CORPUS, *TEXTS])
def test_ids_and_text_are_sentencepieces_own(trained: Any, text: str) -> None:
    tokenizer = build_tokenizer(metadata(trained), Path("x.gguf"))
    ids = tokenizer.encode(text)
    assert ids == [1, *trained.encode(text)]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert MLXTokenizer(tokenizer).decode(ids[1:]) == text.lstrip()  # mlx_lm drops every space at the start


def test_special_tokens_inside_the_text_are_whole(trained: Any) -> None:
    tokenizer = build_tokenizer(metadata(trained), Path("x.gguf"))
    assert tokenizer.encode("in</s>", add_special_tokens=False)[-1] == 2
    assert (tokenizer.bos_token, tokenizer.unk_token, tokenizer.eos_token_ids) == ("<s>", "<unk>", {2})


def test_without_a_space_prefix_none_is_added_or_removed(trained: Any) -> None:
    facts = {**metadata(trained), "tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": False}
    tokenizer = build_tokenizer(facts, Path("x.gguf"))
    for text in ("the fox", " the fox"):
        assert MLXTokenizer(tokenizer).decode(tokenizer.encode(text)) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("the"))[0][0] == "t"


def test_scores_that_do_not_match_the_tokens_are_damage(trained: Any) -> None:
    facts = {**metadata(trained), "tokenizer.ggml.scores": [0.0]}
    with pytest.raises(ModelDamagedError, match=r"x\.gguf: its vocabulary does not fit together"):
        build_tokenizer(facts, Path("x.gguf"))
