"""A Qwen vocabulary in a GGUF file tokenises as transformers' own Qwen2Tokenizer does."""

import json
from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.mlx.tokenizer import MLXTokenizer
from semantic.adapters.model_sources.gguf_tokenizer import build_tokenizer

pytestmark = pytest.mark.mlx

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the other foxes sit together in the thicket.",
    "We'll see: it's what they've said, isn't it? I'd say so 1234567 times, 2024-05-17.",
    "for index in range(10):\n    print(index, values[index])\n\n\n",
    "Zürich, café, naïve — 日本語のテキスト、中文文本。",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
NOT_SPECIAL = ["<think>", "</think>", "<tool_call>"]
TEXTS = [
    "THEY'LL count 12345 foxes  \n\n  together",
    "Cafe\u0301 and Zu\u0308rich",  # normalised to the composed letters
    "<|im_start|>user\nthe fox<|im_end|>\n<think>\n\n</think>\n\n",
    " leading and trailing ",
    "\t\ttabs\r\n\r\nand 🦊 emoji",
    "",
]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def reference() -> Any:
    """Trained on the corpus; ids as in a published vocabulary: pieces, then special tokens."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    trained.train_from_iterator(CORPUS * 5, trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL], special_tokens=True)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in NOT_SPECIAL])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def metadata(reference: Any) -> dict[str, Any]:
    """As llama.cpp's converter writes it, ends padded as the published vocabularies are."""
    model = json.loads(reference.backend_tokenizer.to_str())["model"]
    tokens = reference.convert_ids_to_tokens(range(len(reference)))
    kinds = [3 if token in SPECIAL else 4 if token in NOT_SPECIAL else 1 for token in tokens]
    padding = [f"[PAD{index}]" for index in range(len(tokens), len(tokens) + 8)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [*tokens, *padding],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.token_type": [*kinds, *[5] * len(padding)],
        "tokenizer.ggml.bos_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.padding_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


@pytest.mark.parametrize("text", [*CORPUS, *TEXTS])
def test_ids_and_text_are_the_references(reference: Any, text: str) -> None:
    tokenizer = build_tokenizer(metadata(reference), Path("x.gguf"))
    ids = tokenizer.encode(text)
    assert ids == reference.encode(text)
    assert tokenizer.decode(ids) == reference.decode(ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == reference.decode(ids, skip_special_tokens=True)
    assert MLXTokenizer(tokenizer).decode(ids) == reference.decode(ids).removeprefix(" ")  # mlx_lm drops it


def test_a_chat_is_the_references_too_and_ends_where_published_settings_say(reference: Any) -> None:
    tokenizer = build_tokenizer(metadata(reference), Path("x.gguf"))
    messages = [{"role": "user", "content": "Count the foxes: 12."}]
    rendered = reference.apply_chat_template(messages, tokenize=False)
    assert MLXTokenizer(tokenizer).encode_chat(messages) == reference.encode(rendered)
    ends = {reference.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")}
    assert tokenizer.eos_token_ids == ends
