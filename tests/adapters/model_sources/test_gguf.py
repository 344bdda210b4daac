"""GGUF files of the llama family become mlx_lm's own model, bit for bit."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources.gguf_file import GgufFile
from semantic.adapters.model_sources.gguf_source import GgufSource, load_gguf
from semantic.domain.errors import ModelDamagedError, UnsupportedArchitectureError

pytestmark = pytest.mark.mlx


def parameters(model: Any) -> dict[str, np.ndarray]:
    from mlx.utils import tree_flatten

    return {name: np.array(value) for name, value in tree_flatten(model.parameters())}


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q6_K"])
def test_on_cpu_every_weight_equals_gguf_pys_float32(write_gguf: Any, on_cpu: Prepare, kind: str) -> None:
    tiny = write_gguf(kind)
    loaded = load_gguf(tiny.path, "tiny", on_cpu)
    found = parameters(loaded.model)
    assert found.keys() == tiny.weights.keys()
    for name, weight in tiny.weights.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], weight, err_msg=name)


def test_an_untied_output_layer_is_used(write_gguf: Any, on_cpu: Prepare) -> None:
    loaded = load_gguf(write_gguf(tied=False).path, "tiny", on_cpu)
    assert loaded.model.args.tie_word_embeddings is False
    assert "lm_head.weight" in parameters(loaded.model)


def test_loading_twice_gives_the_same_bits(write_gguf: Any, on_cpu: Prepare) -> None:
    path = write_gguf("Q4_1").path
    first, second = (parameters(load_gguf(path, "tiny", on_cpu).model) for _ in range(2))
    assert {name: weight.tobytes() for name, weight in first.items()} == {
        name: weight.tobytes() for name, weight in second.items()
    }


@pytest.mark.parametrize(("kind", "bits"), [("Q8_0", 8), ("Q4_0", 4)])
def test_on_a_gpu_the_weights_stay_quantised_and_say_the_same(
    write_gguf: Any, on_cpu: Prepare, on_gpu: Prepare, kind: str, bits: int
) -> None:
    import mlx.core as mx
    import mlx.nn as nn

    path = write_gguf(kind).path
    kept, expanded = load_gguf(path, "tiny", on_gpu).model, load_gguf(path, "tiny", on_cpu).model
    projection = kept.layers[0].self_attn.q_proj
    assert isinstance(projection, nn.QuantizedLinear)
    assert (projection.bits, projection.group_size, projection.scales.dtype) == (bits, 32, mx.float16)
    logits = [np.array(model(mx.array([[5, 6, 7]])).astype(mx.float32)) for model in (kept, expanded)]
    np.testing.assert_allclose(logits[0], logits[1], atol=0.05)


def test_llama3_frequency_factors_give_mlx_lms_own_frequencies(write_gguf: Any, on_cpu: Prepare) -> None:
    from mlx_lm.models.rope_utils import Llama3RoPE

    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    wanted = np.array(Llama3RoPE(64, base=10_000.0, scaling_config=scaling)._freqs)
    plain = 10_000.0 ** (np.arange(0, 64, 2) / 64)
    path = write_gguf(extra_tensors={"rope_freqs.weight": (wanted / plain).astype(np.float32)}).path
    rope = load_gguf(path, "tiny", on_cpu).model.layers[1].self_attn.rope
    np.testing.assert_allclose(np.array(rope._freqs), wanted, rtol=1e-5)


@pytest.mark.parametrize(("kind", "factor"), [("linear", 2.0), ("yarn", 4.0)])
def test_rope_scaling_is_taken_from_the_metadata(write_gguf: Any, on_cpu: Prepare, kind: str, factor: float) -> None:
    metadata = {
        "rope.scaling.type": kind,
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": 256,
    }
    scaling = load_gguf(write_gguf(metadata=metadata).path, "tiny", on_cpu).model.args.rope_scaling
    assert scaling is not None
    assert (scaling["type"], scaling["factor"]) == (kind, factor)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"architecture": "qwen3moe"}, "qwen3moe"),
        ({"metadata": {"expert_count": 8}}, "expert_count is 8"),
        ({"metadata": {"rope.dimension_count": 32}}, "rope.dimension_count is 32"),
        ({"metadata": {"rope.scaling.type": "longrope"}}, "longrope"),
        ({"extra_tensors": {"blk.0.attn_sinks.weight": np.zeros(4, np.float32)}}, "attn_sinks"),
        ({"metadata": {"tokenizer.ggml.pre": "tekken"}}, "tekken"),
    ],
)
def test_what_is_not_served_is_named(write_gguf: Any, on_cpu: Prepare, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=named):
        load_gguf(write_gguf(**arguments).path, "tiny", on_cpu)


def test_a_file_without_a_needed_fact_is_damaged(write_gguf: Any, on_cpu: Prepare) -> None:
    with pytest.raises(ModelDamagedError, match=r"llama\.context_length"):
        load_gguf(write_gguf(metadata={"context_length": None}).path, "tiny", on_cpu)


def test_tensors_that_do_not_fit_the_metadata_are_damage(write_gguf: Any, on_cpu: Prepare) -> None:
    with pytest.raises(ModelDamagedError, match="do not fit its metadata"):
        load_gguf(write_gguf(metadata={"feed_forward_length": 512}).path, "tiny", on_cpu)


def cut(data: bytes) -> bytes:
    return data[:-100]


def cut_in_the_header(data: bytes) -> bytes:
    return data[:200]


def other_magic(data: bytes) -> bytes:
    return b"GGML" + data[4:]


def version_99(data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", 99) + data[8:]


def absurd_tensor_count(data: bytes) -> bytes:
    return data[:8] + struct.pack("<Q", 1 << 60) + data[16:]


def nothing(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    "damage", [cut, cut_in_the_header, other_magic, version_99, absurd_tensor_count, nothing], ids=lambda f: f.__name__
)
def test_a_damaged_file_is_refused_before_mlx_sees_it(
    write_gguf: Any, on_cpu: Prepare, damage: Callable[[bytes], bytes]
) -> None:
    path = write_gguf().path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelDamagedError, match=r"tiny\.gguf"):
        load_gguf(path, "tiny", on_cpu)


def test_every_truncation_of_the_header_is_a_named_error(write_gguf: Any) -> None:
    path: Path = write_gguf().path
    data = path.read_bytes()
    for length in range(0, 6000, 37):
        path.write_bytes(data[:length])
        with pytest.raises(ModelDamagedError):
            GgufFile.read(path)


def test_the_header_reads_as_gguf_pys_own_reader_reads_it(write_gguf: Any) -> None:
    import gguf

    path = write_gguf("Q8_0").path
    ours, theirs = GgufFile.read(path), gguf.GGUFReader(path)
    assert {(t.name, t.kind, t.offset, t.nbytes) for t in ours.tensors.values()} == {
        (t.name, t.tensor_type, t.data_offset, t.n_bytes) for t in theirs.tensors
    }
    for key, value in ours.metadata.items():
        assert value == theirs.fields[key].contents(), key


def test_a_file_is_recognised_by_its_name_or_its_first_bytes(write_gguf: Any, on_cpu: Prepare, tmp_path: Path) -> None:
    source = GgufSource(on_cpu)
    path = write_gguf().path
    nameless = path.rename(tmp_path / "blob")
    assert source.recognises(str(nameless))
    assert not source.recognises(str(tmp_path / "absent.gguf"))
    assert not source.recognises(str(tmp_path))


def test_the_tokenizer_splits_digits_and_keeps_special_tokens_whole(write_gguf: Any, on_cpu: Prepare) -> None:
    tokenizer = load_gguf(write_gguf().path, "tiny", on_cpu).tokenizer
    pieces = tokenizer.convert_ids_to_tokens(tokenizer.encode("hello 12<|im_end|>"))
    assert pieces == ["hello", "Ġ", "1", "2", "<|im_end|>"]
    assert tokenizer.decode(tokenizer.encode("hello  wörld ☃\n")) == "hello  wörld ☃\n"
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.eos_token_ids) == ("<|im_start|>", "<|im_end|>", {2})


def test_mlx_lm_generates_from_what_is_loaded(write_gguf: Any, on_cpu: Prepare) -> None:
    import mlx_lm

    loaded = load_gguf(write_gguf("Q8_0").path, "tiny", on_cpu)
    assert isinstance(mlx_lm.generate(loaded.model, loaded.tokenizer, "hello", max_tokens=4), str)
