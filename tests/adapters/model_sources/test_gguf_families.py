"""GGUF files of every served family give the logits of the model that they were written from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semantic.adapters.model_sources.gguf_file import GgufFile
from semantic.domain.errors import ModelDamagedError, UnsupportedArchitectureError

pytestmark = pytest.mark.mlx

VOCAB, HIDDEN, HEADS, KV_HEADS, LAYERS = 96, 256, 4, 2, 4
CONFIG: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "intermediate_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": 64,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
}
GEMMA = {"query_pre_attn_scalar": 64, "sliding_window": 8, "sliding_window_pattern": 2, "rope_local_base_freq": 1_000.0}
GEMMA_FACTS = {
    "attention.sliding_window": 8,
    "attention.sliding_window_pattern": 2,
    "rope.freq_base_swa": 1_000.0,
}
TOKENS = [[7, 3, 50, 95, 0, 21, 21, 8, 64, 33, 12, 90, 2, 77, 41, 5, 18, 60, 29, 1]]  # longer than the windows
KINDS = [
    *("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_S", "IQ3_XXS", "IQ4_NL", "IQ4_XS"),
    *("TQ1_0", "TQ2_0", "MXFP4", "NVFP4"),
]

Write = Callable[..., Path]


def model_of(family: str, **changes: Any) -> Any:
    """A random model of mlx_lm's own, float32; norms and biases are no ones and zeros."""
    from importlib import import_module

    import mlx.core as mx
    from mlx.utils import tree_map

    module = import_module(f"mlx_lm.models.{family}")
    model = module.Model(module.ModelArgs.from_dict({"model_type": family, **CONFIG, **changes}))
    if family == "gemma3_text":
        model.sanitize({})
    mx.random.seed(3)
    model.update(tree_map(lambda weight: weight + 0.1 * mx.random.normal(weight.shape), model.parameters()))
    mx.eval(model.parameters())
    return model


def in_gguf(name: str, weight: np.ndarray, architecture: str) -> np.ndarray:
    """As llama.cpp's converter writes it: Gemma's norms with the one added, Llama's heads interleaved."""
    if architecture == "gemma3" and name.endswith("norm.weight"):
        return weight + np.float32(1)
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
    if architecture == "llama" and heads:
        return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
    return weight


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write("qwen3", model)`` writes a model's weights by gguf-py's own table of names; ``kind`` is the matrices'."""

    def write(architecture: str, model: Any, kind: str = "F32", names_of: str = "", **metadata: Any) -> Path:
        import gguf
        from mlx.utils import tree_flatten

        path = tmp_path / f"{architecture}.gguf"
        writer = gguf.GGUFWriter(str(path), architecture)
        facts: dict[str, Any] = {
            "block_count": LAYERS,
            "embedding_length": HIDDEN,
            "feed_forward_length": HIDDEN,
            "context_length": 512,
            "attention.head_count": HEADS,
            "attention.head_count_kv": KV_HEADS,
            "attention.key_length": 64,
            "attention.value_length": 64,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "rope.freq_base": 10_000.0,
            **metadata,
        }
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
        for key, value in facts.items():
            add[type(value)](f"{architecture}.{key}", value)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[(names_of or architecture).upper()], LAYERS)
        quantisation = gguf.GGMLQuantizationType[kind]
        for name, weight in tree_flatten(model.parameters()):
            stored = in_gguf(name, np.array(weight), architecture)
            target = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if weight.ndim == 1 or kind == "F32":
                writer.add_tensor(target, stored)
            else:
                writer.add_tensor(target, packed(stored, quantisation), raw_dtype=quantisation)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def packed(values: np.ndarray, kind: Any) -> np.ndarray:
    """Quantised by gguf-py where it can; any small bytes where it only reads: no scale is infinite then."""
    import gguf

    try:
        return gguf.quantize(values, kind)
    except NotImplementedError:
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        nbytes = values.shape[1] // block * block_bytes
        return np.random.default_rng(1).integers(0, 0x40, (values.shape[0], nbytes), dtype=np.uint8)


def load(path: Path, compute_dtype: str = "float32", *, dequantise: bool = True) -> Any:
    from semantic.adapters.model_sources.gguf import build_model

    return build_model(GgufFile.read(path), compute_dtype=compute_dtype, dequantise=dequantise)


def logits(model: Any, tokens: list[list[int]] = TOKENS) -> np.ndarray:
    import mlx.core as mx

    return np.array(model(mx.array(tokens)).astype(mx.float32))


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """How far apart they lie on the whole, as a share of what there is."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "beta_fast": 16.0, "beta_slow": 2.0}
YARN_FACTS = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 128,
    "rope.scaling.yarn_beta_fast": 16.0,
    "rope.scaling.yarn_beta_slow": 2.0,
}
LINEAR, LINEAR_FACTS = {"type": "linear", "factor": 8.0}, {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", "llama", {}, {}),
    "llama with attention biases": ("llama", "llama", {"attention_bias": True}, {}),
    "qwen2": ("qwen2", "qwen2", {}, {}),
    "qwen2 untied": ("qwen2", "qwen2", {"tie_word_embeddings": False}, {}),
    "qwen2 linear": ("qwen2", "qwen2", {"rope_scaling": LINEAR}, LINEAR_FACTS),
    "qwen3": ("qwen3", "qwen3", {}, {}),
    "qwen3 untied": ("qwen3", "qwen3", {"tie_word_embeddings": False}, {}),
    "qwen3 yarn": ("qwen3", "qwen3", {"rope_scaling": YARN, "rope_theta": 1e6}, {**YARN_FACTS, "rope.freq_base": 1e6}),
    "gemma3": ("gemma3_text", "gemma3", GEMMA, GEMMA_FACTS),
    "gemma3 linear": ("gemma3_text", "gemma3", {**GEMMA, "rope_scaling": LINEAR}, {**GEMMA_FACTS, **LINEAR_FACTS}),
    "gemma3 with windows listed": (
        "gemma3_text",
        "gemma3",
        GEMMA,
        {**GEMMA_FACTS, "attention.sliding_window_pattern": [True, False, True, False]},
    ),
    "gemma3 with a scale": (
        "gemma3_text",
        "gemma3",
        {**GEMMA, "query_pre_attn_scalar": 16},
        {**GEMMA_FACTS, "attention.scale": 0.25},
    ),
    "gemma3 without windows": ("gemma3_text", "gemma3", {**GEMMA, "sliding_window_pattern": 1}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_in_float32_the_logits_are_the_originals_bit_for_bit(write: Write, case: str) -> None:
    family, architecture, config, facts = CASES[case]
    original = model_of(family, **config)
    loaded = load(write(architecture, original, **facts))
    assert type(loaded) is type(original)
    np.testing.assert_array_equal(logits(loaded), logits(original))


@pytest.mark.parametrize("case", ["qwen2", "qwen3 yarn", "gemma3 linear"])
def test_one_token_at_a_time_gives_the_originals_bits_too(write: Write, case: str) -> None:
    """Rotating windows, scaled positions and all."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    family, architecture, config, facts = CASES[case]
    original = model_of(family, **config)
    loaded = load(write(architecture, original, **facts))
    caches = [make_prompt_cache(model) for model in (original, loaded)]
    assert [type(cache) for cache in caches[0]] == [type(cache) for cache in caches[1]]
    for token in TOKENS[0]:
        theirs, ours = original(mx.array([[token]]), cache=caches[0]), loaded(mx.array([[token]]), cache=caches[1])
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))


@pytest.mark.parametrize(
    ("case", "kind"), [*(("qwen3", kind) for kind in KINDS), ("gemma3", "Q4_K"), ("qwen2", "BF16")]
)
def test_every_type_that_gguf_py_reads_gives_a_model_of_just_its_values(write: Write, case: str, kind: str) -> None:
    import gguf
    import mlx.core as mx
    from mlx.utils import tree_flatten

    family, architecture, config, facts = CASES[case]
    original = model_of(family, **config)
    path = write(architecture, original, kind, **facts)
    quantisation = gguf.GGMLQuantizationType[kind]
    values = [
        (
            name,
            weight
            if weight.ndim == 1
            else mx.array(gguf.dequantize(packed(np.array(weight), quantisation), quantisation).astype(np.float32)),
        )
        for name, weight in tree_flatten(original.parameters())
    ]
    exact = logits(original)
    original.load_weights(values)
    assert np.isfinite(logits(original)).all()
    np.testing.assert_array_equal(logits(load(path)), logits(original))
    if kind in ("F16", "BF16", "Q8_0"):
        assert distance(logits(load(path)), exact) < 0.05


def test_no_type_that_gguf_py_reads_was_left_out() -> None:
    import gguf

    assert {kind.name for kind in gguf.quants._type_traits} | {"F16"} == set(KINDS)


@pytest.mark.parametrize(
    ("case", "dtype", "far"),
    [("qwen2", "float16", 0.05), ("qwen3", "float16", 0.05), ("gemma3", "bfloat16", 0.25)],
)
def test_on_a_gpu_the_weights_stay_quantised_in_the_familys_own_dtype(
    write: Write, case: str, dtype: str, far: float
) -> None:
    import mlx.nn as nn

    family, architecture, config, facts = CASES[case]
    path = write(architecture, model_of(family, **config), "Q8_0", **facts)
    kept = load(path, "model", dequantise=False)
    projection = kept.layers[0].self_attn.q_proj
    assert isinstance(projection, nn.QuantizedLinear)
    assert str(projection.scales.dtype) == f"mlx.core.{dtype}"
    assert distance(logits(kept), logits(load(path))) < far


def test_the_27b_gemma_divides_its_queries_by_what_its_heads_are_not_wide() -> None:
    from semantic.adapters.model_sources.gguf_gemma import _query_scalar

    class Silent:
        def real(self, key: str, default: float) -> float:
            return default

    sizes = {"hidden_size": 5376, "num_attention_heads": 32, "head_dim": 128}
    silent: Any = Silent()
    assert _query_scalar(silent, {**sizes, "num_hidden_layers": 62}) == 168
    assert _query_scalar(silent, {**sizes, "num_hidden_layers": 48}) == 128


@pytest.mark.parametrize(
    ("case", "changed", "named"),
    [
        ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
        ("gemma3", {"attention.sliding_window_pattern": [True, False, False, True]}, "no period"),
        ("gemma3", {"attention.sliding_window_pattern": [True] * 4}, "no period"),
        ("gemma3", {"attention.sliding_window_pattern": 0}, "no period"),
        ("gemma3", {"attention.sliding_window_pattern": 5}, "no period"),  # of four layers
        ("qwen2", {"attention.key_length": 32, "attention.value_length": 32}, "key_length is 32"),
        ("qwen3", {**YARN_FACTS, "rope.scaling.attn_factor": 1.5}, "attn_factor is 1.5"),
        ("qwen3", {"expert_count": 8}, "expert_count is 8"),
        ("qwen3", {"attention.head_count_kv": [2, 2, 1, 2]}, "differs from layer to layer"),
    ],
)
def test_what_mlx_lm_cannot_express_is_named(write: Write, case: str, changed: dict[str, Any], named: str) -> None:
    family, architecture, config, facts = CASES[case]
    path = write(architecture, model_of(family, **config), **{**facts, **changed})
    with pytest.raises(UnsupportedArchitectureError, match=named):
        load(path)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"attention.head_count": 0}, "head_count is 0"),
        ({"block_count": 4_000_000_000}, r"no tensor blk\.3999999999\.attn_norm\.weight"),
        ({"block_count": 3}, "do not fit its metadata"),
        ({"context_length": "long"}, "'long', no number"),
        ({"rope.freq_base": "high"}, "'high', no number"),
        ({"rope.freq_base": float("nan")}, "nan, no number"),
        ({"feed_forward_length": 128}, "do not fit its metadata"),
    ],
)
def test_metadata_that_contradicts_the_tensors_is_damage(write: Write, changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelDamagedError, match=named):
        load(write("qwen3", model_of("qwen3"), **changed))


def test_a_qwen2_file_without_its_biases_is_damaged(write: Write) -> None:
    with pytest.raises(ModelDamagedError, match="do not fit its metadata"):
        load(write("qwen2", model_of("llama")))


def test_a_tensor_of_another_family_is_named(write: Write) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"attn_q_norm\.weight' is not one of the qwen2 family's"):
        load(write("qwen2", model_of("qwen3"), names_of="qwen3"))
