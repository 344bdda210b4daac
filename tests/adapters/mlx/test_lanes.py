"""Which way a model runs is decided by what its own caches are and by trying, never by its name."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import gemma2, llama, mamba
from tiny_zoo import build_zoo_model

from semantic.adapters.mlx.cache_probe import derive_cache_spec
from semantic.adapters.mlx.lanes import Lane, choose_lane
from semantic.domain.errors import UnsupportedArchitectureError
from semantic.domain.value_objects import LayerKind, Reuse

pytestmark = pytest.mark.mlx

TinyLlama = Callable[..., Any]


def lane(
    model: Any, layout: str = "auto", exactness: str = "token", device: str = "cpu", context_length: int | None = None
) -> Lane:
    spec = derive_cache_spec(model)
    return choose_lane(model, spec, layout=layout, exactness=exactness, device=device, context_length=context_length)


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


def test_rows_with_a_window_over_some_layers_share_a_forward_and_attend_apart(tiny_llama: TinyLlama) -> None:
    model = tiny_llama(layer_types=["full_attention", "sliding_attention"], sliding_window=16)
    found = lane(model)
    assert ways(found) == ("contiguous", "ragged")
    assert found.reuse is Reuse.AT_STATES
    assert found.reason == (
        "some layers keep more than plain keys and values; contiguous rows agree with the model's own"
    )


def test_a_model_that_multiplies_the_fetched_keys_itself_gets_its_rows_padded_and_says_why() -> None:
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
    assert ways(found) == ("contiguous", "padded")
    assert found.mask_axes == 5
    assert found.reuse is Reuse.ANYWHERE
    assert found.reason.startswith("paged rows don't: ")
    assert "; contiguous rows don't: " in found.reason
    assert found.reason.endswith("; padded rows of grouped heads agree with the model's own")


def test_a_model_that_reads_the_offset_as_one_number_runs_one_by_one_and_is_reused_anywhere() -> None:
    found = lane(build_zoo_model("gpt_bigcode"), context_length=1024)
    assert ways(found) == ("contiguous", "one by one")
    assert found.reuse is Reuse.ANYWHERE


def test_positions_that_depend_on_the_chunk_keep_mlx_lms_chunks_and_only_whole_ones_are_reused() -> None:
    found = lane(build_zoo_model("internlm2 with dynamic NTK"))
    assert ways(found) == ("contiguous", "one by one")
    assert (found.reuse, found.reference_chunks) == (Reuse.AT_CHUNKS, True)
    assert "how a prompt is cut into chunks" in found.reason


def test_keys_that_only_choose_what_is_attended_to_are_not_padded() -> None:
    found = lane(build_zoo_model("longcat_flash"))
    assert ways(found) == ("contiguous", "one by one")
    assert "a layer keeps keys of its own to choose what it attends to" in found.reason


@pytest.mark.parametrize("name", ["mamba", "lfm2", "recurrent_gemma with windows", "gemma3n", "gpt_oss with sinks"])
def test_rows_with_states_windows_shared_layers_or_sinks_share_a_forward(name: str) -> None:
    found = lane(build_zoo_model(name))
    assert ways(found) == ("contiguous", "ragged")
    assert found.reuse is Reuse.AT_STATES


def test_a_model_that_looks_at_what_it_fetched_without_attending_is_refused_the_stacked_rows(
    tiny_llama: TinyLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_llama()

    def blind(self: Any, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        cache.update_and_fetch(*(mx.zeros((x.shape[0], 2, x.shape[1], 16)) for _ in range(2)))
        return x

    monkeypatch.setattr(llama.Attention, "__call__", blind)
    assert "contiguous rows don't: AttentionNotServedError: the model uses what a cache returns" in (
        lane(model, layout="contiguous").reason
    )


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


def test_a_model_that_cannot_run_here_is_refused_with_what_it_said(
    tiny_llama: TinyLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_kernel(*_: Any, **__: Any) -> mx.array:
        raise RuntimeError("[metal_kernel] No Metal back-end.")

    model = tiny_llama()
    monkeypatch.setattr(llama.Attention, "__call__", no_kernel)
    with pytest.raises(UnsupportedArchitectureError, match=r"does not run on this device .*No Metal back-end"):
        derive_cache_spec(model)


def test_a_model_of_states_alone_is_held_to_the_dtype_it_computes_in() -> None:
    model = build_zoo_model("mamba")
    assert derive_cache_spec(model).precision.dtype == "float32"
    model.set_dtype(mx.bfloat16)
    assert derive_cache_spec(model).precision.dtype == "bfloat16"


def test_keys_of_an_index_have_no_values_and_one_head() -> None:
    kinds = [layer.kind for layer in derive_cache_spec(build_zoo_model("minimax_m3_vl with an index")).layers]
    assert kinds == [LayerKind.FULL, *[LayerKind.FULL, LayerKind.LATENT] * 2]
