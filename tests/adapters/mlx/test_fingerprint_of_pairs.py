"""What a (model, tokenizer) pair in memory is called in the store."""

import gc
import hashlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.mlx

TinyLlama = Callable[..., Any]

ELSEWHERE = """
from semantic.adapters.mlx import blas; blas.activate()
import mlx.core as mx, mlx.nn as nn
from semantic.adapters.mlx.fingerprint import fingerprint_of_pair
from mlx_lm.models import llama
args = llama.ModelArgs(model_type="llama", hidden_size=64, num_hidden_layers=2, intermediate_size=96,
    num_attention_heads=4, rms_norm_eps=1e-5, vocab_size=128)
mx.random.seed(7)
print(fingerprint_of_pair(llama.Model(args), None))
"""


def fingerprint(model: Any, tokenizer: Any = None) -> str:
    from semantic.adapters.mlx.fingerprint import fingerprint_of_pair

    return fingerprint_of_pair(model, tokenizer)


def fast_tokenizer(template: str | None = None, **settings: Any) -> Any:
    from mlx_lm.tokenizer_utils import TokenizerWrapper
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, "<end>": 3}, [("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    fast.chat_template = template
    return TokenizerWrapper(fast, **settings)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were hashed in full."""
    from semantic.adapters.mlx import fingerprint as module

    hashed: list[str] = []
    whole = module._digest

    def digest(model: Any) -> str:
        hashed.append(whole(model))
        return hashed[-1]

    monkeypatch.setattr(module, "_digest", digest)
    return hashed


def test_equal_models_have_equal_fingerprints_of_64_hex_digits(tiny_llama: TinyLlama) -> None:
    first, second = fingerprint(tiny_llama()), fingerprint(tiny_llama())
    assert first == second
    assert len(bytes.fromhex(first)) == 32


def test_two_processes_give_one_fingerprint() -> None:
    def run(hash_seed: str) -> str:
        command = [sys.executable, "-c", ELSEWHERE]
        environment = {"PYTHONHASHSEED": hash_seed, "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    assert run("1") == run("2")


@pytest.mark.parametrize("change", [{"rope_theta": 20_000.0}, {"max_position_embeddings": 4096}])
def test_another_config_value_is_another_model(tiny_llama: TinyLlama, change: dict[str, Any]) -> None:
    assert fingerprint(tiny_llama()) != fingerprint(tiny_llama(**change))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_one_changed_weight_is_another_model_in_any_dtype(tiny_llama: TinyLlama, dtype: str) -> None:
    import mlx.core as mx

    model = tiny_llama()
    model.set_dtype(getattr(mx, dtype))
    before = fingerprint(model)
    weight = model.model.layers[1].mlp.up_proj.weight
    weight[0, 0] = weight[0, 0] * 2
    assert fingerprint(model) != before


def test_the_same_weights_in_another_dtype_are_another_model(tiny_llama: TinyLlama) -> None:
    import mlx.core as mx

    model = tiny_llama()
    before = fingerprint(model)
    model.set_dtype(mx.bfloat16)
    assert fingerprint(model) != before


def test_a_model_object_is_hashed_once(tiny_llama: TinyLlama, counted: list[str]) -> None:
    model = tiny_llama()
    assert fingerprint(model) == fingerprint(model)
    assert len(counted) == 1


def test_another_tokenizer_hashes_no_weights_again(tiny_llama: TinyLlama, counted: list[str]) -> None:
    model = tiny_llama()
    assert fingerprint(model, fast_tokenizer()) != fingerprint(model)
    assert len(counted) == 1


def test_replaced_arrays_are_noticed(tiny_llama: TinyLlama, counted: list[str]) -> None:
    from mlx.utils import tree_map

    model = tiny_llama()
    before = fingerprint(model)
    model.update(tree_map(lambda array: array + 1, model.parameters()))
    assert fingerprint(model) != before
    model.update(tree_map(lambda array: array + 0, model.parameters()))
    assert len(counted) == 2


def test_two_rows_that_swap_places_in_the_same_array_are_noticed(tiny_llama: TinyLlama) -> None:
    import mlx.core as mx

    model = tiny_llama()
    before = fingerprint(model)
    embedding = model.model.embed_tokens.weight
    embedding[mx.array([3, 5])] = embedding[mx.array([5, 3])]
    assert fingerprint(model) != before


def test_an_applied_lora_and_its_scale_are_noticed(tiny_llama: TinyLlama) -> None:
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model = tiny_llama()
    plain = fingerprint(model)
    linear_to_lora_layers(model, 1, {"rank": 2, "scale": 1.0, "dropout": 0.0})
    adapted = fingerprint(model)
    model.model.layers[1].self_attn.q_proj.scale = 2.0
    assert len({plain, adapted, fingerprint(model)}) == 3


def test_training_mode_is_no_part_of_a_model(tiny_llama: TinyLlama) -> None:
    model = tiny_llama()
    assert fingerprint(model.eval()) == fingerprint(model.train())


def test_frequencies_that_are_no_parameters_count(tiny_llama: TinyLlama) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = tiny_llama(rope_scaling={**scaling, "original_max_position_embeddings": 512})
    before = fingerprint(model)
    rope = model.model.layers[0].self_attn.rope
    rope._freqs = rope._freqs * 2
    assert fingerprint(model) != before


def test_a_model_that_is_gone_leaves_nothing_behind(tiny_llama: TinyLlama) -> None:
    from semantic.adapters.mlx.fingerprint import _entries

    model = tiny_llama()
    fingerprint(model)
    key = id(model)
    assert key in _entries
    del model
    gc.collect()
    assert key not in _entries


def test_a_remembered_fingerprint_holds_until_the_model_changes(tiny_llama: TinyLlama, counted: list[str]) -> None:
    from semantic.adapters.mlx.fingerprint import remember

    model, tokenizer = tiny_llama(), fast_tokenizer()
    of_files = hashlib.sha256(b"files").hexdigest()
    remember(model, tokenizer, of_files)
    assert (fingerprint(model, tokenizer), counted) == (of_files, [])
    model.model.norm.weight -= 0.5
    assert fingerprint(model, tokenizer) != of_files


def test_an_open_engine_leaves_the_fingerprint_of_its_model_alone(tiny_llama: TinyLlama) -> None:
    import semantic

    model = tiny_llama(vocab_size=16_384, hidden_size=256)  # large enough for projections of ours
    before = fingerprint(model)
    with semantic.open((model, None), memory="64MB") as engine:
        assert engine.profile.fingerprint == before
        engine.generate([1, 2, 3], max_tokens=2)
        assert fingerprint(model) == before
    assert fingerprint(model) == before


def test_a_chat_template_an_end_token_and_a_merge_each_make_another_tokenizer() -> None:
    from semantic.adapters.mlx.tokenizer_fingerprint import tokenizer_fingerprint

    other_merge = fast_tokenizer()
    other_merge._tokenizer.add_tokens(["abab"])
    others = [fast_tokenizer("{{ messages }}"), fast_tokenizer(eos_token_ids=[1]), other_merge, None]
    found = {tokenizer_fingerprint(tokenizer) for tokenizer in [fast_tokenizer(), *others]}
    assert len(found) == 5
    assert tokenizer_fingerprint(fast_tokenizer()) in found


def test_using_a_tokenizer_does_not_change_its_fingerprint() -> None:
    from semantic.adapters.mlx.tokenizer_fingerprint import tokenizer_fingerprint

    tokenizer = fast_tokenizer()
    before = tokenizer_fingerprint(tokenizer)
    tokenizer._tokenizer("ab ab", truncation=True, max_length=2)
    assert tokenizer_fingerprint(tokenizer) == before


def test_a_tokenizer_of_another_kind_counts_by_its_vocabulary() -> None:
    from semantic.adapters.mlx.tokenizer_fingerprint import tokenizer_fingerprint

    class Plain:
        def __init__(self, vocabulary: dict[str, int]) -> None:
            self.get_vocab = lambda: vocabulary

    first, same, other = Plain({"a": 0, "b": 1}), Plain({"b": 1, "a": 0}), Plain({"a": 1, "b": 0})
    assert tokenizer_fingerprint(first) == tokenizer_fingerprint(same) != tokenizer_fingerprint(other)
