"""What can't be quantised in compute is refused by name, with what would work; nothing falls back to exact caches."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import base
from tiny_models import ARCHITECTURES, DENSE, Architecture, build

import semantic
from semantic.domain.errors import ModelDamagedError, SemanticError, UnsupportedPrecisionError

pytestmark = pytest.mark.mlx


def llama(head_dim: int = 64) -> nn.Module:
    return build(Architecture("llama", DENSE | {"head_dim": head_dim}))


def refusal(model: nn.Module, **options: Any) -> str:
    with pytest.raises(UnsupportedPrecisionError) as caught:
        semantic.open((model, None), memory="64MB", **{"kv_bits": 8, **options})
    assert isinstance(caught.value, SemanticError)
    return str(caught.value)


def test_windows_are_refused() -> None:
    assert refusal(build(ARCHITECTURES["gemma3"])) == (
        "kv_bits quantises full attention, and a layer of this model keeps its keys in a RotatingKVCache, "
        "which mlx_lm can't quantise; leave kv_bits out to keep its caches exact; "
        "kv_at_rest quantises what is kept of them"
    )


def test_a_model_with_recurrent_state_only_has_nothing_to_quantise() -> None:
    assert "keeps recurrent state and no keys or values" in refusal(build(ARCHITECTURES["mamba"]))


def test_a_group_size_that_does_not_divide_the_head_names_one_that_does() -> None:
    assert refusal(llama(32)) == (
        "kv_group_size 64 does not divide the model's head dimensions (32); kv_group_size=32 would work"
    )
    assert "no group size does; leave kv_bits out" in refusal(llama(16))


def test_latent_attention_that_multiplies_the_keys_itself_is_refused() -> None:
    model = build(Architecture("gemma2", ARCHITECTURES["gemma2"].arguments | {"head_dim": 64}))
    assert "this model's attention can't read quantised keys and values" in refusal(model)


def test_attention_sinks_are_refused_with_what_serves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_sinks(*args: Any, **how: Any) -> mx.array:
        return base.scaled_dot_product_attention(*args, **how, sinks=mx.zeros(4))

    monkeypatch.setattr("mlx_lm.models.llama.scaled_dot_product_attention", with_sinks)
    assert refusal(llama()) == (
        "this model's attention can't read quantised keys and values (ValueError: Quantized SDPA does not support "
        "attention sinks.); leave kv_bits out to keep its caches exact; kv_at_rest quantises what is kept of them"
    )


def test_pages_are_refused() -> None:
    assert 'cache_layout can\'t be "paged"' in refusal(llama(), cache_layout="paged")


@pytest.mark.parametrize("bits", [2, 0, "4/8", "q8"])
def test_other_bits_are_refused_by_name(bits: Any) -> None:
    assert f"kv_bits must be 8, 4 or 8/4 (keys / values), got {bits!r}" in refusal(llama(), kv_bits=bits)


def test_other_group_sizes_are_refused() -> None:
    assert refusal(llama(), kv_group_size=48) == "kv_group_size must be one of 32, 64, 128, got 48"


def test_caches_that_are_quantised_in_compute_are_not_quantised_again_at_rest() -> None:
    assert "kv_at_rest can't be '4'" in refusal(llama(), kv_at_rest="4")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"head_dim": 32}, "kv_group_size=32 would work"),
        ("gemma3", {}, "keeps its keys in a RotatingKVCache"),
        ("mamba", {}, "keeps recurrent state and no keys or values"),
    ],
)
def test_a_folder_is_refused_before_any_weight_is_loaded(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    architecture = ARCHITECTURES[name]
    config = {"model_type": architecture.module, **architecture.arguments, **changes}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedPrecisionError, match=message):
        semantic.open(str(tmp_path), kv_bits=8)
    with pytest.raises(ModelDamagedError, match=r"no model\*.safetensors"):
        semantic.open(str(tmp_path))


@pytest.mark.parametrize(("bits", "expected"), [("4", (4, 4)), ("8/4", (8, 4))])
def test_an_environment_variable_sets_the_bits(
    bits: str, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMANTIC_KV_BITS", bits)
    monkeypatch.setenv("SEMANTIC_KV_GROUP_SIZE", "32")
    with semantic.open((llama(32), None), memory="64MB") as engine:
        assert engine.profile.cache_spec.precision.bits_of_sides == expected
        assert engine.profile.cache_spec.precision.group_size == 32
