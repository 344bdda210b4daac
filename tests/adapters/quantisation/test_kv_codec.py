"""Blocks through the codec and back: what comes back, how far off, in how many bytes."""

from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.adapters.quantisation.key_code import Arrays
from semantic.adapters.quantisation.kv_codec import KVCodec, Portion
from semantic.adapters.quantisation.packing import unpack
from semantic.adapters.quantisation.scratch import Scratch
from semantic.adapters.quantisation.value_code import hadamard
from semantic.domain.errors import InvalidSpecError
from semantic.domain.value_objects import LayerSpec, RestPrecision

Floats = npt.NDArray[np.float32]
Pair = tuple[Floats, Floats]

BITS = ((8, 8), (8, 4), (4, 4))
TOKENS = (1, 2, 17, 129, 130, 255, 256)


def block(tokens: int = 256, heads: int = 3, key_dim: int = 64, value_dim: int = 64, seed: int = 0) -> Pair:
    """Keys and values as models have them: channels with offsets, and a first token unlike the others."""
    random = np.random.default_rng(seed)
    keys = random.standard_normal((heads, tokens, key_dim)) + 4 * random.standard_normal((heads, 1, key_dim))
    keys[:, 0] *= -10
    values = random.standard_normal((heads, tokens, value_dim)) * random.uniform(0.1, 1, (heads, tokens, 1))
    return keys.astype(np.float32), values.astype(np.float32)


def portion(*layers: tuple[Arrays, Floats, Floats]) -> Portion:
    arrays, keys, values = zip(*layers, strict=True)
    return Portion({name: np.stack([each[name] for each in arrays]) for name in arrays[0]}, keys, values)


def through(codec: KVCodec, keys: Floats, values: Floats) -> Pair:
    decoded = np.full_like(keys, np.nan), np.full_like(values, np.nan)
    codec.decode([portion((codec.encode(keys, values), *decoded))])
    return decoded


def key_bound(codec: KVCodec, keys: Floats) -> Floats:
    """Half a step for each channel and group; of the first token half a unit of its last 16-bit place."""
    bound = np.abs(keys) * 2.0**-11 + 2.0**-25
    for start in range(1, keys.shape[1], 128):
        group = keys[:, start : start + 128]
        low, high = group.min(1, keepdims=True), group.max(1, keepdims=True)
        step = (high - low + np.abs(low) * 2.0**-10 + 2.0**-24) / (codec.precision.key_levels - 1)
        bound[:, start : start + 128] = (step * (1 + 2.0**-10) + 2.0**-24) / 2 + np.abs(group) * 1e-6
    return bound


def value_bound(codec: KVCodec, values: Floats) -> Floats:
    """Of a group's rotated vector's length: half a step, or what the steps don't span, for each of its numbers."""
    levels, group = codec.precision.value_levels, codec.precision.value_group
    rotated = values.reshape(-1, group & -group) @ hadamard(group & -group)
    largest = np.abs(rotated.reshape(-1, group)).max(axis=1)
    worst = np.sqrt(group) * (largest * 1.001 / (levels - 1) + 2.0**-24 * levels)
    return np.repeat(worst, group).reshape(values.shape)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_no_number_is_off_by_more_than_its_group_allows(bits: tuple[int, int], tokens: int) -> None:
    codec = KVCodec(RestPrecision.of(*bits))
    keys, values = block(tokens)
    decoded_keys, decoded_values = through(codec, keys, values)
    assert (np.abs(decoded_keys - keys) <= key_bound(codec, keys)).all()
    assert (np.abs(decoded_values - values) <= value_bound(codec, values)).all()


@pytest.mark.parametrize(
    ("bits", "key_error", "value_error"), [((8, 8), 0.006, 0.006), ((8, 4), 0.006, 0.11), ((4, 4), 0.05, 0.16)]
)
def test_the_error_is_a_small_share_of_the_spread(bits: tuple[int, int], key_error: float, value_error: float) -> None:
    keys, values = block()
    decoded_keys, decoded_values = through(KVCodec(RestPrecision.of(*bits)), keys, values)
    spread = keys[:, 1:].std(axis=1, keepdims=True)
    assert np.sqrt(((decoded_keys - keys)[:, 1:] / spread).var()) < key_error
    assert (decoded_values - values).std() / values.std() < value_error


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    ("heads", "key_dim", "value_dim", "group"), [(3, 64, 64, 64), (1, 72, 48, 16), (2, 256, 80, 80)]
)
@pytest.mark.parametrize("tokens", TOKENS)
def test_bytes_and_shapes_are_as_counted(
    bits: tuple[int, int], heads: int, key_dim: int, value_dim: int, group: int, tokens: int
) -> None:
    codec = KVCodec(RestPrecision.of(*bits, value_group=group))
    arrays = codec.encode(*block(tokens, heads, key_dim, value_dim))
    found = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
    assert found == codec.shapes(heads, tokens, key_dim, value_dim)
    assert list(found) == list(codec.shapes(heads, tokens, key_dim, value_dim))
    layer = LayerSpec.full(heads, key_dim, value_dim)
    assert sum(array.nbytes for array in arrays.values()) == codec.precision.layer_bytes(layer, tokens)


@pytest.mark.parametrize(("bits", "num_bytes"), [((8, 8), 101_568), ((8, 4), 76_992), ((4, 4), 55_560)])
def test_a_layer_of_smollm2_takes_so_many_bytes_of_393_216(bits: tuple[int, int], num_bytes: int) -> None:
    arrays = KVCodec(RestPrecision.of(*bits)).encode(*block())
    assert sum(array.nbytes for array in arrays.values()) == num_bytes


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", [8, 16, 64, 80])
def test_values_are_the_rotated_codes_stored_by_half_and_channel(bits: tuple[int, int], group: int) -> None:
    codec = KVCodec(RestPrecision.of(*bits, value_group=group))
    keys, values = block(tokens=9, value_dim=2 * group)
    arrays, levels, size = codec.encode(keys, values), codec.precision.value_levels, group & -group
    stored = unpack(arrays["values.codes"], levels, values.size, Scratch())
    codes = stored.reshape(size, -1, 3, 9).transpose(2, 3, 1, 0).reshape(-1, size).astype(np.float32)
    scales = np.repeat(arrays["values.scales"].astype(np.float32), group // size, axis=-1)
    expected = (codes - levels // 2) @ hadamard(size) * scales.reshape(-1, 1)
    np.testing.assert_allclose(through(codec, keys, values)[1].reshape(-1, size), expected, rtol=1e-5, atol=1e-6)


def test_equal_blocks_give_equal_bytes() -> None:
    keys, values = block()
    once, again = (KVCodec(RestPrecision.of(4)).encode(keys.copy(), values.copy()) for _ in range(2))
    assert {name: array.tobytes() for name, array in once.items()} == {
        name: array.tobytes() for name, array in again.items()
    }


def test_views_of_larger_arrays_are_read_and_written_in_place() -> None:
    codec = KVCodec(RestPrecision.of(4))
    keys, values = block()
    arena = np.full((2, 3, 1024, 64), np.nan, np.float32)
    arena[0, :, 256:512], arena[1, :, 256:512] = keys, values
    arrays = codec.encode(arena[0, :, 256:512], arena[1, :, 256:512])
    codec.decode([portion((arrays, arena[0, :, 512:768], arena[1, :, 512:768]))])
    for there, here in zip(arena[:, :, 512:768], through(codec, keys, values), strict=True):
        np.testing.assert_array_equal(there, here)
    assert np.isnan(arena[:, :, :256]).all()
    assert np.isnan(arena[:, :, 768:]).all()
    np.testing.assert_array_equal(arena[0, :, 256:512], keys)


@pytest.mark.parametrize("bits", BITS)
def test_layers_that_are_decoded_together_are_as_each_alone(bits: tuple[int, int]) -> None:
    codec = KVCodec(RestPrecision.of(*bits, value_group=16))
    shapes = [(3, 64, 64), (1, 72, 48), (2, 64, 0), (3, 64, 64)]
    originals = [[block(130, *shape, seed=seed) for seed in range(3)] for shape in shapes]
    together = [[(np.full_like(keys, np.nan), np.full_like(values, np.nan)) for keys, values in o] for o in originals]
    codec.decode(
        portion(*((codec.encode(*one), *into) for one, into in zip(*several, strict=True)))
        for several in zip(originals, together, strict=True)
    )
    for one, into in zip(chain(*originals), chain(*together), strict=True):
        for decoded, alone in zip(into, through(codec, *one), strict=True):
            np.testing.assert_array_equal(decoded, alone)


def test_arrays_that_cannot_be_written_are_decoded() -> None:
    codec, (keys, values) = KVCodec(RestPrecision.of(8)), block()
    arrays = {
        name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
        for name, array in codec.encode(keys, values).items()
    }
    decoded = np.empty_like(keys), np.empty_like(values)
    codec.decode([portion((arrays, *decoded))])
    np.testing.assert_array_equal(decoded[0], through(codec, keys, values)[0])


def test_what_a_group_holds_does_not_touch_others() -> None:
    codec, (keys, values) = KVCodec(RestPrecision.of(4)), block()
    before = through(codec, keys, values)
    keys[0, 200, 5] = values[1, 7, 3] = 1000
    after = through(codec, keys, values)
    np.testing.assert_array_equal(after[0][:, :129], before[0][:, :129])
    np.testing.assert_array_equal(np.delete(after[0][:, 129:], 5, axis=2), np.delete(before[0][:, 129:], 5, axis=2))
    np.testing.assert_array_equal(np.delete(after[1], 7, axis=1), np.delete(before[1], 7, axis=1))


def test_a_strange_first_token_costs_the_others_nothing() -> None:
    codec, (keys, values) = KVCodec(RestPrecision.of(4)), block()
    before, _ = through(codec, keys, values)
    keys[:, 0] = 5000
    after, _ = through(codec, keys, values)
    np.testing.assert_array_equal(after[:, 1:], before[:, 1:])
    assert (after[:, 0] == 5000).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("constant", [0.0, 0.1, -3.7, 1e-7, -1e-30, 16384.0])
def test_constants_come_back(bits: tuple[int, int], constant: float) -> None:
    keys = np.full((2, 33, 64), constant, np.float32)
    decoded_keys, decoded_values = through(KVCodec(RestPrecision.of(*bits)), keys, keys)
    np.testing.assert_allclose(decoded_keys, keys, rtol=2.0**-11, atol=2.0**-25)
    # a constant vector is one number after rotation, the largest; which few levels don't span
    np.testing.assert_allclose(decoded_values, keys, rtol=0.07, atol=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_zeros_come_back_as_zeros(bits: tuple[int, int]) -> None:
    zeros = np.zeros((2, 256, 64), np.float32)
    for decoded in through(KVCodec(RestPrecision.of(*bits)), zeros, zeros):
        assert not decoded.any()


@pytest.mark.parametrize("bits", BITS)
def test_the_largest_numbers_stay_finite(bits: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    keys, values = (16384 * random.choice([-1.0, 1.0], (2, 64, 128)).astype(np.float32) for _ in range(2))
    values[0] = 16384
    codec = KVCodec(RestPrecision.of(*bits, value_group=128))
    for decoded in through(codec, keys, values):
        assert np.isfinite(decoded).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 20_000, -1e30])
@pytest.mark.parametrize("which", [0, 1])
def test_numbers_that_no_scale_holds_are_refused(number: float, which: int) -> None:
    arrays = block(8)
    arrays[which][1, 3, 5] = number
    assert not KVCodec.holds(arrays[which])
    assert KVCodec.holds(arrays[1 - which])
    with pytest.raises(OverflowError, match="keep this block as it is"):
        KVCodec(RestPrecision.of(4)).encode(*arrays)


@pytest.mark.parametrize(("key_dim", "value_dim"), [(64, 0), (0, 64)])
def test_one_of_the_two_may_be_missing(key_dim: int, value_dim: int) -> None:
    codec = KVCodec(RestPrecision.of(4))
    keys, values = block(40, 1, key_dim, value_dim)
    arrays = codec.encode(keys, values)
    assert {name.split(".")[0] for name in arrays} == {"keys" if key_dim else "values"}
    assert list(arrays) == list(codec.shapes(1, 40, key_dim, value_dim))
    for decoded in through(codec, keys, values):
        assert np.isfinite(decoded).all()


def test_a_width_that_the_groups_do_not_divide_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="value_group 64 does not divide value_head_dim 80"):
        KVCodec(RestPrecision.of(4)).encode(*block(8, value_dim=80))


@pytest.mark.parametrize("size", [1, 2, 8, 64, 128])
def test_the_rotation_undoes_itself(size: int) -> None:
    matrix: Any = hadamard(size).astype(np.float64)
    np.testing.assert_allclose(matrix @ matrix, np.eye(size), atol=1e-6)
    np.testing.assert_array_equal(matrix, matrix.T)


@settings(deadline=None, max_examples=60)
@given(
    bits=st.sampled_from(BITS),
    heads=st.integers(1, 3),
    tokens=st.integers(1, 300),
    dims=st.sampled_from([(8, 8, 8), (64, 64, 64), (40, 24, 24), (16, 128, 64)]),
    power=st.integers(-20, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_block_comes_back_within_bounds(
    bits: tuple[int, int], heads: int, tokens: int, dims: tuple[int, int, int], power: int, seed: int
) -> None:
    codec = KVCodec(RestPrecision.of(*bits, value_group=dims[2]))
    keys, values = (array * np.float32(2.0**power) for array in block(tokens, heads, dims[0], dims[1], seed))
    decoded_keys, decoded_values = through(codec, keys, values)
    assert (np.abs(decoded_keys - keys) <= key_bound(codec, keys)).all()
    assert (np.abs(decoded_values - values) <= value_bound(codec, values)).all()
