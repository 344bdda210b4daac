"""Which way a model runs is decided by what its own caches are and by trying, never by its name."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import gemma2, llama, mamba

from semantic.adapters.mlx.cache_probe import derive_cache_spec
from semantic.adapters.mlx.lanes import Lane, choose_lane
from semantic.domain.errors import UnsupportedArchitectureError
from semantic.domain.value_objects import LayerKind

pytestmark = pytest.mark.mlx

TinyLlama = Callable[..., Any]


def lane(model: Any, layout: str = "auto", exactness: str = "token", device: str = "cpu") -> Lane:
    return choose_lane(model, derive_cache_spec(model), layout=layout, exactness=exactness, device=device)


def ways(lane: Lane) -> tuple[str, str]:
    return lane.layout, lane.batching


def test_plain_attention_in_float32_runs_ragged_over_pages_on_the_cpu(tiny_llama: TinyLlama) -> None:
    assert lane(tiny_llama()) == Lane("paged", "ragged", "paged rows agree with the model's own")


def test_elsewhere_it_runs_ragged_over_mlx_lms_own_caches(tiny_llama: TinyLlama) -> None:
    assert ways(lane(tiny_llama(), device="metal")) == ("contiguous", "ragged")
    assert ways(lane(tiny_llama(), layout="contiguous")) == ("contiguous", "ragged")


def test_the_bit_lane_runs_one_by_one_over_mlx_lms_own_caches(tiny_llama: TinyLlama) -> None:
    assert ways(lane(tiny_llama(), exactness="bit")) == ("contiguous", "one by one")


def test_half_precision_does_not_go_into_pages(tiny_llama: TinyLlama) -> None:
    model = tiny_llama()
    model.set_dtype(mx.bfloat16)
    found = lane(model, layout="paged")
    assert ways(found) == ("contiguous", "ragged")
    assert "pages hold float32 and the model computes bfloat16" in found.reason


def test_a_window_over_some_layers_runs_one_by_one(tiny_llama: TinyLlama) -> None:
    model = tiny_llama(layer_types=["full_attention", "sliding_attention"], sliding_window=16)
    found = lane(model)
    assert ways(found) == ("contiguous", "one by one")
    assert found.reason == "some layers keep more than plain keys and values"


def test_a_model_that_multiplies_the_fetched_keys_itself_runs_one_by_one_and_says_why() -> None:
    model = gemma2.Model(
        gemma2.ModelArgs(
            model_type="gemma2",
            hidden_size=64,
            num_hidden_layers=2,
            intermediate_size=96,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            rms_norm_eps=1e-5,
            vocab_size=128,
        )
    )
    found = lane(model)
    assert ways(found) == ("contiguous", "one by one")
    assert found.reason.startswith("paged rows don't: ")
    assert "; contiguous rows don't: " in found.reason


def test_trying_a_lane_leaves_nothing_bound(tiny_llama: TinyLlama) -> None:
    before = llama.scaled_dot_product_attention
    lane(tiny_llama())
    assert llama.scaled_dot_product_attention is before


# -- the spec ----------------------------------------------------------------------------------------


def test_the_spec_is_what_the_models_own_caches_hold(tiny_llama: TinyLlama) -> None:
    spec = derive_cache_spec(tiny_llama())
    assert [(layer.kind, layer.kv_heads, layer.key_head_dim, layer.value_head_dim) for layer in spec.layers] == [
        (LayerKind.FULL, 2, 16, 16)
    ] * 2
    assert (spec.precision.dtype, spec.block_tokens) == ("float32", 256)
    assert spec.bytes_per_block == 131_072  # 2 layers, keys and values, 2 heads, 256 tokens, 16 wide, 4 bytes


def test_windows_are_in_the_spec(tiny_llama: TinyLlama) -> None:
    spec = derive_cache_spec(tiny_llama(layer_types=["full_attention", "sliding_attention"], sliding_window=16))
    assert [(layer.kind, layer.window) for layer in spec.layers] == [(LayerKind.FULL, None), (LayerKind.SLIDING, 16)]


def test_recurrent_state_is_in_the_spec() -> None:
    model = mamba.Model(
        mamba.ModelArgs(
            model_type="mamba",
            vocab_size=128,
            hidden_size=64,
            intermediate_size=96,
            state_size=8,
            num_hidden_layers=2,
            conv_kernel=4,
            use_bias=False,
            use_conv_bias=True,
            time_step_rank=4,
        )
    )
    spec = derive_cache_spec(model)
    assert [layer.kind for layer in spec.layers] == [LayerKind.RECURRENT] * 2
    assert spec.bytes_per_block == 0
    assert spec.state_bytes_per_sequence == 2 * 4 * (3 * 96 + 96 * 8)  # convolution's last inputs, and the state


def test_a_kind_of_cache_that_is_not_known_is_refused_by_name(
    tiny_llama: TinyLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HoldsNothing:
        offset = 0
        state: tuple[Any, ...] = ()

        def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
            return keys, values

        def make_mask(self, *_: Any, **__: Any) -> str:
            return "causal"

    model = tiny_llama()
    monkeypatch.setattr(type(model), "make_cache", lambda self: [HoldsNothing(), HoldsNothing()], raising=False)
    with pytest.raises(UnsupportedArchitectureError, match="HoldsNothing"):
        derive_cache_spec(model)
