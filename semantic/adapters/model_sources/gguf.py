"""GGUF files as mlx_lm's own models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from gguf import GGMLQuantizationType as Kind

from semantic.adapters.model_sources.gguf_facts import Facts
from semantic.adapters.model_sources.gguf_family import Family
from semantic.adapters.model_sources.gguf_file import GgufFile, TensorInfo
from semantic.adapters.model_sources.gguf_gemma import GEMMA3
from semantic.adapters.model_sources.gguf_llama import LLAMA
from semantic.adapters.model_sources.gguf_qwen import QWEN2, QWEN3
from semantic.domain.errors import ModelDamagedError, UnsupportedArchitectureError

FAMILIES: Mapping[str, Family] = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "gemma3": GEMMA3}
"""By ``general.architecture``."""

GROUP_SIZE = 32
"""Weights per scale in Q4_0, Q4_1 and Q8_0, which mlx reads as its own quantised triples."""

_QUANTISED = {Kind.Q4_0: 4, Kind.Q4_1: 4, Kind.Q8_0: 8}
_PLAIN = {Kind.F32, Kind.F16}

Named = Iterator[tuple[str, mx.array]]


def build_model(file: GgufFile, *, compute_dtype: str, dequantise: bool) -> nn.Module:
    """The model with its weights, lazy. ``dequantise``: expand quantised weights into ``compute_dtype``.

    Kept quantised otherwise, as ``mx.load`` reads them: on a GPU the 4-bit matmul is native, and the weights
    stay a quarter of the size. ``compute_dtype="model"`` then means the family's own, float16 for most, in which GGUF
    keeps its scales. Raises ``ModelDamagedError`` or ``UnsupportedArchitectureError``.
    """
    family, facts = _family(file)
    config = family.config(facts)
    model = family.model(config)
    dtype = getattr(mx, family.dtype if compute_dtype == "model" else compute_dtype)
    weights = model.sanitize(dict(_weights(file, family, config, dtype, dequantise)))
    nn.quantize(model, class_predicate=lambda path, module: _quantisation(path, module, weights))
    try:
        model.load_weights(list(weights.items()))
    except ValueError as exc:
        raise ModelDamagedError(f"{file.path}: its tensors do not fit its metadata ({exc}); fetch it again") from exc
    for name, apply in family.others.items():
        if name in file.tensors:
            apply(model, config, mx.array(file.float32(name)))
    model.eval()
    return model


def _family(file: GgufFile) -> tuple[Family, Facts]:
    architecture = str(file.metadata.get("general.architecture"))
    if architecture not in FAMILIES:
        raise UnsupportedArchitectureError(
            f"{file.path}: its architecture is {architecture!r}; served: {', '.join(FAMILIES)}. "
            "Take the model as an mlx-lm folder or by its hub id instead"
        )
    return FAMILIES[architecture], Facts(file, architecture)


def _weights(file: GgufFile, family: Family, config: Any, dtype: mx.Dtype, dequantise: bool) -> Named:
    """Every parameter by mlx_lm's name: quantised triples (``.weight``, ``.scales``, ``.biases``) or plain
    arrays.
    """
    natively = file.kinds <= {*_QUANTISED, *_PLAIN}
    loaded: Any = mx.load(str(file.path), format="gguf") if natively else {}
    for name, tensor in file.tensors.items():
        if name in family.others:
            continue
        target, rows = _target(file, family, name), _row_order(family, name, config)
        if natively and tensor.kind in _QUANTISED:
            yield from _quantised(loaded, tensor, target, rows, dtype, dequantise)
            continue
        plain = loaded[name] if natively else mx.array(file.float32(name))
        if family.norm_offset and name.endswith("norm.weight"):
            plain = plain.astype(mx.float32) - family.norm_offset
        plain = rows(plain.astype(dtype))
        if not natively:
            mx.eval(plain)  # one tensor in float32 at a time
        yield target, plain


def _quantised(
    loaded: Any, tensor: TensorInfo, target: str, rows: Callable[[Any], Any], dtype: mx.Dtype, dequantise: bool
) -> Named:
    stem, _, suffix = tensor.name.rpartition(".")
    triple = [loaded[f"{stem}.{part}"] for part in ("weight", "scales", "biases")]
    if dequantise:
        yield target, rows(_expand(triple, _QUANTISED[tensor.kind], dtype))
        return
    yield target, rows(triple[0])
    for part, array in zip(("scales", "biases"), triple[1:], strict=True):
        yield target.removesuffix(suffix) + part, rows(array.astype(dtype))


def _expand(triple: Sequence[mx.array], bits: int, dtype: mx.Dtype) -> mx.array:
    """In float32: every Q4_0 and Q8_0 weight is exact there, and a Q4_1 weight is rounded once."""
    weight, scales, biases = triple
    scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    return mx.dequantize(weight, scales, biases, group_size=GROUP_SIZE, bits=bits).astype(dtype)


def _target(file: GgufFile, family: Family, name: str) -> str:
    """``blk.3.attn_q.weight`` is ``model.layers.3.self_attn.q_proj.weight``."""
    match name.split("."):
        case ["blk", layer, module, "weight" | "bias" as suffix] if module in family.modules and layer.isdigit():
            return f"model.layers.{layer}.{family.modules[module]}.{suffix}"
        case [module, "weight" | "bias" as suffix] if module in family.modules:
            return f"{family.modules[module]}.{suffix}"
    raise UnsupportedArchitectureError(
        f"{file.path}: tensor {name!r} is not one of the {file.metadata['general.architecture']} family's; "
        "take the model as an mlx-lm folder or by its hub id instead"
    )


def _row_order(family: Family, name: str, config: Any) -> Callable[[Any], Any]:
    """Some files interleave the two halves of each query and key head (for ggml's own RoPE); this puts them back."""
    by_module = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    heads = by_module.get(name.split(".")[-2]) if family.interleaves else None
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
