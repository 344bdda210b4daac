"""What a quantised block costs in bytes."""

from typing import Any

import pytest

from semantic.domain.errors import InvalidSpecError
from semantic.domain.value_objects import LayerSpec, RestPrecision

SMOLLM2 = LayerSpec.full(kv_heads=3, key_head_dim=64)
"""49,152 keys and as many values in a block of 256 tokens."""


@pytest.mark.parametrize(
    ("bits", "levels"), [((8, 8), (256, 256)), ((4, 4), (32, 11)), ((8, 4), (256, 16)), ((4, 8), (32, 256))]
)
def test_bits_stand_for_levels(bits: tuple[int, int], levels: tuple[int, int]) -> None:
    precision = RestPrecision.of(*bits)
    assert (precision.key_levels, precision.value_levels) == levels


def test_values_are_as_the_keys_unless_said() -> None:
    assert RestPrecision.of(8) == RestPrecision.of(8, 8)


@pytest.mark.parametrize(
    ("bits", "key_bytes", "value_bytes"),
    [
        # keys: 384 for the first token, 255 x 192 codes, 2 groups x 192 channels x 4 bytes; values: 768 scales
        ((4, 4), 384 + 30_600 + 1_536, 21_504 + 1_536),
        ((8, 4), 384 + 48_960 + 1_536, 24_576 + 1_536),
        ((8, 8), 384 + 48_960 + 1_536, 49_152 + 1_536),
    ],
)
def test_a_block_costs_its_codes_its_scales_and_its_first_token(
    bits: tuple[int, int], key_bytes: int, value_bytes: int
) -> None:
    precision = RestPrecision.of(*bits)
    assert precision.key_bytes(3, 256, 64) == key_bytes
    assert precision.value_bytes(3, 256, 64) == value_bytes
    assert precision.layer_bytes(SMOLLM2, 256) == key_bytes + value_bytes


@pytest.mark.parametrize(("bits", "expected"), [((4, 4), 4.521484375), ((8, 4), 6.265625), ((8, 8), 8.265625)])
def test_bits_per_value_of_a_whole_block(bits: tuple[int, int], expected: float) -> None:
    assert RestPrecision.of(*bits).bits_per_value(SMOLLM2, 256) == expected


@pytest.mark.parametrize(
    ("tokens", "groups"), [(0, 0), (1, 0), (2, 1), (129, 1), (130, 2), (256, 2), (257, 2), (258, 3)]
)
def test_the_first_token_is_in_no_group(tokens: int, groups: int) -> None:
    assert RestPrecision.of(4).key_groups(tokens) == groups


@pytest.mark.parametrize(("tokens", "num_bytes"), [(0, 0), (1, 384 + 84 + 6), (2, 384 + 120 + 768 + 168 + 12)])
def test_few_tokens_cost_their_own_scales(tokens: int, num_bytes: int) -> None:
    assert RestPrecision.of(4).layer_bytes(SMOLLM2, tokens) == num_bytes


def test_latent_layers_may_lack_one_of_the_two() -> None:
    precision = RestPrecision.of(4)
    only_keys = LayerSpec.latent(key_dim=576, value_dim=0)
    assert precision.layer_bytes(only_keys, 256) == precision.key_bytes(1, 256, 576)


def test_recurrent_layers_are_not_quantised() -> None:
    assert RestPrecision.of(4).layer_bytes(LayerSpec.recurrent(5_000), 256) == 0


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"key_levels": 10, "value_levels": 16}, "key_levels must be one of 256, 32, 16, 11, got 10"),
        ({"key_levels": 32, "value_levels": 0}, "value_levels"),
        ({"key_levels": 32, "value_levels": 11, "key_group": 0}, "key_group"),
        ({"key_levels": 32, "value_levels": 11, "value_group": 12}, "value_group must be a multiple of 8, got 12"),
        ({"key_levels": 32, "value_levels": 11, "value_group": True}, "value_group"),
    ],
)
def test_nonsense_is_refused_and_the_field_named(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpecError, match=field):
        RestPrecision(**arguments)


@pytest.mark.parametrize(("bits", "field"), [((3,), "key_bits"), ((True,), "key_bits"), ((8, 16), "value_bits")])
def test_other_bits_are_refused(bits: tuple[int, ...], field: str) -> None:
    with pytest.raises(InvalidSpecError, match=f"{field} must be 8 or 4"):
        RestPrecision.of(*bits)


@pytest.mark.parametrize(
    ("layer", "field"),
    [
        (LayerSpec.full(3, 64, 80), "value_group 64 does not divide value_head_dim 80; choose a multiple of 8"),
        (LayerSpec.full(3, 60, 64), "key_head_dim must be a multiple of 8 to be quantised, got 60"),
    ],
)
def test_widths_that_do_not_fit_are_refused(layer: LayerSpec, field: str) -> None:
    with pytest.raises(InvalidSpecError, match=field):
        RestPrecision.of(4).layer_bytes(layer, 256)


def test_a_group_that_divides_the_width_is_taken() -> None:
    assert RestPrecision.of(4, value_group=16).value_bytes(3, 256, 80) == 26_880 + 7_680
