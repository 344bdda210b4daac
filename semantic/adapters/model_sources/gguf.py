"""GGUF files of the llama family, as mlx_lm's own llama model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from gguf import GGMLQuantizationType as Kind
from mlx_lm.models import llama
from mlx_lm.models.rope_utils import Llama3RoPE

from semantic.adapters.model_sources.gguf_file import GgufFile
from semantic.domain.errors import ModelDamagedError, UnsupportedArchitectureError

ARCHITECTURES = ("llama",)
GROUP_SIZE = 32
"""Weights per scale in Q4_0, Q4_1 and Q8_0, which mlx reads as its own quantised triples."""

_QUANTISED = {Kind.Q4_0: 4, Kind.Q4_1: 4, Kind.Q8_0: 8}
_PLAIN = {Kind.F32, Kind.F16}
_MODULES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROPE_FACTORS = "rope_freqs.weight"
_SCALINGS = ("linear", "yarn")


def build_model(file: GgufFile, *, compute_dtype: str, dequantise: bool) -> llama.Model:
    """The model with its weights, lazy. ``dequantise``: expand quantised weights into ``compute_dtype``.

    Kept quantised otherwise, as ``mx.load`` reads them: on a GPU the 4-bit matmul is native, and the weights
    stay a quarter of the size. ``compute_dtype="model"`` then means float16, in which GGUF keeps its scales.
    """
    config = llama_config(file)
    model = llama.Model(config)
    dtype = mx.float16 if compute_dtype == "model" else getattr(mx, compute_dtype)
    weights = dict(_weights(file, config, dtype, dequantise))
    nn.quantize(model, class_predicate=lambda path, module: _quantisation(path, module, weights))
    try:
        model.load_weights(list(weights.items()))
    except ValueError as exc:
        raise ModelDamagedError(f"{file.path}: its tensors do not fit its metadata ({exc}); fetch it again") from exc
    if _ROPE_FACTORS in file.tensors:
        _scale_rope(model, config, mx.array(file.float32(_ROPE_FACTORS)))
    model.eval()
    return model


def llama_config(file: GgufFile) -> llama.ModelArgs:
    """mlx_lm's configuration from the metadata. Raises ``UnsupportedArchitectureError`` for what it cannot
    express.
    """
    architecture = file.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise UnsupportedArchitectureError(
            f"{file.path}: its architecture is {architecture!r}; served: {', '.join(ARCHITECTURES)}. "
            "Take the model as an mlx-lm folder or by its hub id instead"
        )
    facts = _Facts(file, architecture)
    heads, hidden = facts.number("attention.head_count"), facts.number("embedding_length")
    head_dim = facts.number("attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        facts.expect(key, head_dim)
    facts.expect("expert_count", 0)
    return llama.ModelArgs(
        model_type="llama",
        hidden_size=hidden,
        num_hidden_layers=facts.number("block_count"),
        intermediate_size=facts.number("feed_forward_length"),
        num_attention_heads=heads,
        num_key_value_heads=facts.number("attention.head_count_kv", heads),
        head_dim=head_dim,
        rms_norm_eps=float(facts.get("attention.layer_norm_rms_epsilon")),
        vocab_size=facts.rows("token_embd.weight"),
        max_position_embeddings=facts.number("context_length"),
        rope_theta=float(facts.get("rope.freq_base", 10_000.0)),
        rope_scaling=_rope_scaling(facts),
        tie_word_embeddings="output.weight" not in file.tensors,
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        mlp_bias="blk.0.ffn_up.bias" in file.tensors,
    )


class _Facts:
    """Metadata under the architecture's own prefix."""

    def __init__(self, file: GgufFile, architecture: str) -> None:
        self._file, self._prefix = file, architecture

    def get(self, key: str, default: Any = None) -> Any:
        value = self._file.metadata.get(f"{self._prefix}.{key}", default)
        if value is None:
            raise ModelDamagedError(f"{self._file.path}: its metadata lacks {self._prefix}.{key}; fetch it again")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        value = self.get(key, default)
        if isinstance(value, list):
            raise UnsupportedArchitectureError(f"{self._file.path}: {self._prefix}.{key} differs from layer to layer")
        return int(value)

    def rows(self, tensor: str) -> int:
        if tensor not in self._file.tensors:
            raise ModelDamagedError(f"{self._file.path}: it has no tensor {tensor}; fetch it again")
        return self._file.tensors[tensor].shape[0]

    def expect(self, key: str, value: int) -> None:
        found = self.number(key, value)
        if found != value:
            raise UnsupportedArchitectureError(
                f"{self._file.path}: {self._prefix}.{key} is {found} where mlx_lm's llama model needs {value}"
            )

    def unsupported(self, what: str) -> UnsupportedArchitectureError:
        return UnsupportedArchitectureError(f"{self._file.path}: {what}")


def _rope_scaling(facts: _Facts) -> dict[str, float | str] | None:
    kind = facts.get("rope.scaling.type", "none")
    if kind == "none":
        return None
    if kind not in _SCALINGS:
        raise facts.unsupported(f"its RoPE scaling is {kind!r}; served are none, {', '.join(_SCALINGS)}")
    scaling: dict[str, float | str] = {"type": kind, "factor": float(facts.get("rope.scaling.factor"))}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = facts.number("rope.scaling.original_context_length")
    return scaling


def _weights(
    file: GgufFile, config: llama.ModelArgs, dtype: mx.Dtype, dequantise: bool
) -> Iterator[tuple[str, mx.array]]:
    """Every parameter by mlx_lm's name: quantised triples (``.weight``, ``.scales``, ``.biases``) or plain
    arrays.
    """
    natively = file.kinds <= {*_QUANTISED, *_PLAIN}
    loaded: Any = mx.load(str(file.path), format="gguf") if natively else {}
    for name, tensor in file.tensors.items():
        if name == _ROPE_FACTORS:
            continue
        target, rows = _target(file, name), _row_order(name, config)
        stem, _, suffix = name.rpartition(".")
        if natively and tensor.kind in _QUANTISED:
            triple = [loaded[f"{stem}.{part}"] for part in ("weight", "scales", "biases")]
            if dequantise:
                yield target, rows(_expand(triple, _QUANTISED[tensor.kind], dtype))
            else:
                yield target, rows(triple[0])
                for part, array in zip(("scales", "biases"), triple[1:], strict=True):
                    yield target.removesuffix(suffix) + part, rows(array.astype(dtype))
        else:
            plain = loaded[name] if natively else mx.array(file.float32(name))
            yield target, rows(plain.astype(dtype))


def _expand(triple: Sequence[mx.array], bits: int, dtype: mx.Dtype) -> mx.array:
    """In float32: every Q4_0 and Q8_0 weight is exact there, and a Q4_1 weight is rounded once."""
    weight, scales, biases = triple
    scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    return mx.dequantize(weight, scales, biases, group_size=GROUP_SIZE, bits=bits).astype(dtype)


def _target(file: GgufFile, name: str) -> str:
    """``blk.3.attn_q.weight`` is ``model.layers.3.self_attn.q_proj.weight``."""
    match name.split("."):
        case ["blk", layer, module, "weight" | "bias" as suffix] if module in _MODULES and layer.isdigit():
            return f"model.layers.{layer}.{_MODULES[module]}.{suffix}"
        case [module, "weight" | "bias" as suffix] if module in _MODULES:
            return f"{_MODULES[module]}.{suffix}"
    raise UnsupportedArchitectureError(
        f"{file.path}: tensor {name!r} is not one of the llama family's; "
        "take the model as an mlx-lm folder or by its hub id instead"
    )


def _row_order(name: str, config: llama.ModelArgs) -> Any:
    """GGUF interleaves the two halves of each query and key head (for its own RoPE); this puts them back."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return lambda array: array

    def restore(array: mx.array) -> mx.array:
        half = array.shape[0] // heads // 2
        pairs = array.reshape(heads, half, 2, *array.shape[1:])
        return pairs.swapaxes(1, 2).reshape(array.shape)

    return restore


def _quantisation(path: str, module: nn.Module, weights: Mapping[str, mx.array]) -> bool | dict[str, Any]:
    scales = weights.get(f"{path}.scales")
    if scales is None or not hasattr(module, "to_quantized"):
        return False
    bits = weights[f"{path}.weight"].shape[-1] * 32 // (scales.shape[-1] * GROUP_SIZE)
    return {"group_size": GROUP_SIZE, "bits": bits, "mode": "affine"}


def _scale_rope(model: llama.Model, config: llama.ModelArgs, factors: mx.array) -> None:
    """Llama 3's frequency factors come as a tensor: the model's own class, with exactly those frequencies."""
    dims = int(config.head_dim or 0)
    frequencies = config.rope_theta ** (mx.arange(0, dims, 2, dtype=mx.float32) / dims) * factors
    for layer in model.layers:
        rope = Llama3RoPE(dims, base=config.rope_theta, scaling_config={"factor": 1.0})
        rope._freqs = frequencies
        layer.self_attn.rope = rope
