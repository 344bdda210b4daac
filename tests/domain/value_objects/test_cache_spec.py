"""What a model's cache costs in bytes."""

from typing import Any

import pytest

from semantic.domain.errors import InvalidSpecError, SemanticError
from semantic.domain.value_objects import KVPrecision, LayerKind, LayerSpec, ModelCacheSpec

ONE_LAYER: dict[str, Any] = {"num_layers": 1, "kv_heads": 8, "head_dim": 256}


@pytest.mark.parametrize(
    ("precision", "num_bytes"),
    [
        ({}, 2_097_152),
        ({"dtype": "bfloat16"}, 2_097_152),
        ({"kv_bits": 8}, 1_114_112),
        ({"kv_bits": 4}, 589_824),
        ({"kv_bits": 4, "dtype": "float32", "scale_dtype": "float16"}, 589_824),
        ({"dtype": "float32"}, 4_194_304),
        ({"dtype": "float32", "kv_bits": 8}, 1_179_648),
        ({"dtype": "float32", "kv_bits": 4}, 655_360),
    ],
)
def test_a_block_of_one_layer_costs_elements_scales_and_biases(precision: dict[str, Any], num_bytes: int) -> None:
    assert ModelCacheSpec.uniform(**ONE_LAYER, **precision).bytes_per_block == num_bytes


@pytest.mark.parametrize(("kv_bits", "num_bytes"), [(None, 1_310_720), (4, 368_640)])
def test_keys_and_values_may_differ_in_width(kv_bits: int | None, num_bytes: int) -> None:
    spec = ModelCacheSpec.uniform(
        num_layers=1, kv_heads=16, head_dim=192, value_head_dim=128, kv_bits=kv_bits, block_tokens=128
    )
    assert spec.bytes_per_block == num_bytes


def test_smaller_groups_cost_more_scales() -> None:
    assert ModelCacheSpec.uniform(**ONE_LAYER, kv_bits=4, group_size=32).bytes_per_block == 655_360


def test_layers_add_up() -> None:
    spec = ModelCacheSpec.uniform(num_layers=30, kv_heads=3, head_dim=64, dtype="float32")
    assert (spec.num_layers, spec.bytes_per_token, spec.bytes_per_block) == (30, 46_080, 11_796_480)


@pytest.mark.parametrize(("num_tokens", "num_blocks"), [(0, 0), (1, 1), (256, 1), (257, 2), (1000, 4)])
def test_tokens_take_whole_blocks(num_tokens: int, num_blocks: int) -> None:
    spec = ModelCacheSpec.uniform(**ONE_LAYER)
    assert spec.blocks_for_tokens(num_tokens) == num_blocks
    assert spec.bytes_for_tokens(num_tokens) == num_blocks * 2_097_152


@pytest.mark.parametrize(
    ("window", "num_tokens", "num_blocks"),
    [
        (512, 512, 2),
        (512, 513, 3),  # the last 512 tokens straddle both ends
        (512, 100_000, 3),
        (257, 100_000, 2),
        (258, 100_000, 3),
        (100, 100_000, 2),
        (1, 100_000, 1),
    ],
)
def test_a_sliding_layer_holds_no_more_blocks_than_its_window_can_touch(
    window: int, num_tokens: int, num_blocks: int
) -> None:
    spec = ModelCacheSpec(layers=[LayerSpec.sliding(window, 8, 256)])
    assert spec.bytes_for_tokens(num_tokens) == num_blocks * 2_097_152


def test_a_windowed_model_grows_by_its_full_layers_only() -> None:
    kinds = ["sliding", "full"]
    spec = ModelCacheSpec.uniform(num_layers=2, kv_heads=8, head_dim=256, layer_kinds=kinds, window=256)
    assert [layer.kind for layer in spec.layers] == [LayerKind.SLIDING, LayerKind.FULL]
    assert spec.bytes_per_token == 8_192
    assert spec.bytes_per_block == 2 * 2_097_152
    assert spec.bytes_for_tokens(4096) == (2 + 16) * 2_097_152


def test_a_latent_layer_keeps_one_vector_and_one_rope_part_for_all_heads() -> None:
    spec = ModelCacheSpec(layers=[LayerSpec.latent(key_dim=512, value_dim=64)])
    assert (spec.bytes_per_token, spec.bytes_per_block) == (1_152, 294_912)
    assert ModelCacheSpec(layers=[LayerSpec.latent(key_dim=576, value_dim=0)]).bytes_per_token == 1_152


def test_a_recurrent_layer_costs_its_state_at_any_length() -> None:
    spec = ModelCacheSpec(layers=[LayerSpec.recurrent(5_000), LayerSpec.full(8, 256)])
    assert spec.state_bytes_per_sequence == 5_000
    assert (spec.bytes_per_token, spec.bytes_per_block) == (8_192, 2_097_152)
    assert [spec.bytes_for_tokens(n) for n in (0, 1, 257)] == [5_000, 2_102_152, 4_199_304]


def test_a_sequence_that_drops_what_leaves_a_window_holds_whole_blocks_the_window_and_the_state() -> None:
    spec = ModelCacheSpec(layers=[LayerSpec.recurrent(5_000), LayerSpec.full(8, 256), LayerSpec.sliding(512, 4, 64)])
    assert [spec.live_bytes_at(n) for n in (0, 1, 257, 9_000)] == [
        5_000,
        5_000 + 256 * 8_192 + 1 * 1_024,
        5_000 + 512 * 8_192 + 257 * 1_024,
        5_000 + 9_216 * 8_192 + 512 * 1_024,
    ]


def test_recurrent_layers_are_not_quantised() -> None:
    layers = [LayerSpec.recurrent(5_000), LayerSpec.full(8, 256)]
    assert ModelCacheSpec(layers=layers, precision=KVPrecision(bits=4)).state_bytes_per_sequence == 5_000


def test_equal_specs_are_equal_and_hash_alike() -> None:
    assert ModelCacheSpec.uniform(**ONE_LAYER) == ModelCacheSpec.uniform(**ONE_LAYER)
    assert len({ModelCacheSpec.uniform(**ONE_LAYER), ModelCacheSpec.uniform(**ONE_LAYER)}) == 1
    assert ModelCacheSpec.uniform(**ONE_LAYER) != ModelCacheSpec.uniform(**ONE_LAYER, kv_bits=8)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"num_layers": -1}, "num_layers"),
        ({"kv_heads": 0}, "kv_heads"),
        ({"kv_heads": 2.0}, "kv_heads"),
        ({"head_dim": 0}, "key_head_dim"),
        ({"head_dim": -64}, "key_head_dim"),
        ({"value_head_dim": 0}, "value_head_dim"),
        ({"block_tokens": 0}, "block_tokens"),
        ({"kv_bits": 3}, "bits"),
        ({"kv_bits": 16}, "bits"),
        ({"kv_bits": True}, "bits"),
        ({"dtype": "float64"}, "dtype"),
        ({"scale_dtype": "int8"}, "scale_dtype"),
        ({"group_size": 0}, "group_size"),
        ({"group_size": 12}, "group_size"),
        ({"head_dim": 80, "kv_bits": 4}, "group_size 64 does not divide key_head_dim 80"),
        ({"value_head_dim": 96, "kv_bits": 8}, "group_size 64 does not divide value_head_dim 96"),
        ({"num_layers": 3, "layer_kinds": ["full"] * 2}, "layer_kinds must name 3 layers"),
        ({"layer_kinds": ["half"]}, "layer_kinds"),
        ({"layer_kinds": ["sliding"]}, "window"),
        ({"layer_kinds": ["sliding"], "window": 0}, "window"),
        ({"layer_kinds": ["full"], "window": 512}, "window"),
    ],
)
def test_nonsense_is_refused_and_the_field_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpecError, match=field):
        ModelCacheSpec.uniform(**{**ONE_LAYER, **change})


@pytest.mark.parametrize(
    ("layer", "field"),
    [
        ({"kind": "full", "kv_heads": 8, "key_head_dim": 64, "value_head_dim": 64}, "kind"),
        ({"kind": LayerKind.LATENT, "kv_heads": 1}, "both 0"),
        ({"kind": LayerKind.LATENT, "kv_heads": 1, "key_head_dim": -1, "value_head_dim": 64}, "key_head_dim"),
        ({"kind": LayerKind.RECURRENT}, "state_bytes"),
        ({"kind": LayerKind.RECURRENT, "state_bytes": 8, "kv_heads": 8}, "kv_heads"),
        ({"kind": LayerKind.RECURRENT, "state_bytes": 8, "window": 8}, "window"),
        (
            {
                "kind": LayerKind.FULL,
                "kv_heads": 8,
                "key_head_dim": 64,
                "value_head_dim": 64,
                "state_bytes": 8,
            },
            "state_bytes",
        ),
    ],
)
def test_a_layer_takes_only_what_its_kind_has(layer: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpecError, match=field):
        LayerSpec(**layer)


def test_a_model_has_layers() -> None:
    with pytest.raises(InvalidSpecError, match="layers"):
        ModelCacheSpec(layers=[])


def test_a_negative_number_of_tokens_is_refused() -> None:
    with pytest.raises(SemanticError, match="num_tokens"):
        ModelCacheSpec.uniform(**ONE_LAYER).bytes_for_tokens(-1)
