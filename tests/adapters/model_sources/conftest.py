"""Tiny llama models written to files, the way the tools of the trade write them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from attrs import frozen

from semantic.adapters.mlx.blas import BlasReport
from semantic.adapters.mlx.runtime import Prepare, Runtime, prepare

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 256, 2, 4, 2, 64  # 256 columns: one super-block of the K-quants
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("1", "2")]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

ON_CPU = Runtime("cpu", "test", "float32", True, "", BlasReport(False, "not asked for"), "", "")
ON_GPU = attrs.evolve(ON_CPU, device="metal", compute_dtype="model")


def vocabulary() -> list[str]:
    from tokenizers import pre_tokenizers

    return [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]


def hf_weights(*, tied: bool = True, seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 weights by mlx_lm's names."""
    draw = np.random.default_rng(seed)
    vocab = len(vocabulary())
    shapes = {"model.embed_tokens": (vocab, HIDDEN), "model.norm": (HIDDEN,)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm": (HIDDEN,),
            f"{prefix}.self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
            f"{prefix}.self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{prefix}.self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{prefix}.self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
            f"{prefix}.post_attention_layernorm": (HIDDEN,),
            f"{prefix}.mlp.gate_proj": (HIDDEN, HIDDEN),
            f"{prefix}.mlp.up_proj": (HIDDEN, HIDDEN),
            f"{prefix}.mlp.down_proj": (HIDDEN, HIDDEN),
        }
    if not tied:
        shapes["lm_head"] = (vocab, HIDDEN)
    return {f"{name}.weight": draw.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def config(*, tied: bool = True, **extra: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "vocab_size": len(vocabulary()),
        "max_position_embeddings": 512,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": tied,
        **extra,
    }


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        _, _, layer, module = stem.split(".", 3)
        return f"blk.{layer}.{GGUF_NAMES[module]}.weight"
    return f"{GGUF_NAMES[stem]}.weight"


def interleaved(name: str, weight: np.ndarray) -> np.ndarray:
    """Query and key rows in GGUF's order: the two halves of each head in turn."""
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
    if heads is None:
        return weight
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


@frozen
class TinyGguf:
    """The file, and what its weights are in float32 by mlx_lm's names and in its row order."""

    path: Path
    weights: dict[str, np.ndarray]


WriteGguf = Callable[..., TinyGguf]


@pytest.fixture
def write_gguf(tmp_path: Path) -> WriteGguf:
    """``write_gguf(kind="Q8_0")`` quantises every matrix; keywords in ``metadata`` replace or, if None, drop fields."""

    def write(
        kind: str = "F32",
        *,
        architecture: str = "llama",
        tied: bool = True,
        metadata: dict[str, Any] | None = None,
        extra_tensors: dict[str, np.ndarray] | None = None,
        name: str = "tiny.gguf",
    ) -> TinyGguf:
        import gguf

        quantisation = gguf.GGMLQuantizationType[kind]
        writer = gguf.GGUFWriter(str(tmp_path / name), architecture)
        fields: dict[str, Any] = {
            "block_count": LAYERS,
            "embedding_length": HIDDEN,
            "feed_forward_length": HIDDEN,
            "context_length": 512,
            "attention.head_count": HEADS,
            "attention.head_count_kv": KV_HEADS,
            "rope.dimension_count": HEAD_DIM,
            **(metadata or {}),
        }
        for key, value in fields.items():
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}.get(type(value))
            if add is not None:
                add(key if key.startswith("tokenizer.") else f"{architecture}.{key}", value)
        writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
        writer.add_float32(f"{architecture}.rope.freq_base", 10_000.0)
        _add_tokenizer(writer, fields.get("tokenizer.ggml.pre", "smollm"))
        weights = hf_weights(tied=tied)
        for hf_name, weight in weights.items():
            stored = interleaved(hf_name, weight)
            if weight.ndim == 1 or kind == "F32":
                writer.add_tensor(gguf_name(hf_name), stored)
                continue
            packed = _quantised(stored, quantisation)
            writer.add_tensor(gguf_name(hf_name), packed, raw_dtype=quantisation)
            back = gguf.dequantize(packed, quantisation).astype(np.float32).reshape(weight.shape)
            weights[hf_name] = _restored(hf_name, back)
        for tensor, values in (extra_tensors or {}).items():
            writer.add_tensor(tensor, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return TinyGguf(tmp_path / name, weights)

    return write


def _add_tokenizer(writer: Any, pre: str) -> None:
    tokens = vocabulary()
    writer.add_tokenizer_model("gpt2")
    if pre == "smollm":
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)


def _quantised(values: np.ndarray, kind: Any) -> np.ndarray:
    import gguf

    try:
        return gguf.quantize(values, kind)
    except NotImplementedError:  # gguf-py only reads the K-quants: any bytes are a valid block but for its scale
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        shape = (values.shape[0], values.shape[1] // block, block_bytes)
        packed = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        packed[..., -2:] = np.frombuffer(np.float16(1e-4).tobytes(), np.uint8)  # Q6_K keeps its scale last
        return packed.reshape(values.shape[0], -1)


def _restored(name: str, weight: np.ndarray) -> np.ndarray:
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
    if heads is None:
        return weight
    return weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """``write_folder(bits=4)`` saves a tiny model as mlx-lm does; ``bits`` None keeps it in ``dtype``."""

    def write(bits: int | None = None, dtype: str = "float32", **extra: Any) -> Path:
        import mlx.core as mx
        from mlx_lm.models import llama
        from mlx_lm.utils import quantize_model, save_config, save_model

        folder = tmp_path / "tiny-folder"
        folder.mkdir()
        facts = config(**extra)
        model = llama.Model(llama.ModelArgs.from_dict(facts))
        model.load_weights([(name, mx.array(weight)) for name, weight in hf_weights().items()])
        model.set_dtype(getattr(mx, dtype))
        if bits is not None:
            model, facts = quantize_model(model, facts, group_size=32, bits=bits)
        save_model(folder, model)
        save_config(facts, folder / "config.json")
        _save_tokenizer(folder)
        return folder

    return write


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(vocabulary())}, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def on_cpu() -> Prepare:
    """A runtime that computes in float32 and expands quantised weights."""
    prepare()
    return lambda: ON_CPU


@pytest.fixture
def on_gpu() -> Prepare:
    """A runtime that leaves the model as it was saved."""
    prepare()
    return lambda: ON_GPU
