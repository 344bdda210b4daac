"""The llama family in GGUF: Llama, SmolLM, TinyLlama, Mistral."""

from typing import Any

import mlx.core as mx
from mlx_lm.models import llama
from mlx_lm.models.rope_utils import Llama3RoPE

from semantic.adapters.model_sources.gguf_facts import Facts
from semantic.adapters.model_sources.gguf_family import DECODER_MODULES, Family


def _config(facts: Facts) -> llama.ModelArgs:
    return llama.ModelArgs(
        model_type="llama",
        **facts.decoder(),
        tie_word_embeddings=not facts.has("output.weight"),
        attention_bias=facts.has("blk.0.attn_q.bias"),
        mlp_bias=facts.has("blk.0.ffn_up.bias"),
    )


def _scale_rope(model: llama.Model, config: llama.ModelArgs, factors: mx.array) -> None:
    """Llama 3's frequency factors come as a tensor: the model's own class, with exactly those frequencies."""
    dims = int(config.head_dim or 0)
    frequencies = config.rope_theta ** (mx.arange(0, dims, 2, dtype=mx.float32) / dims) * factors
    layers: Any = model.layers
    for layer in layers:
        rope = Llama3RoPE(dims, base=config.rope_theta, scaling_config={"factor": 1.0})
        rope._freqs = frequencies
        layer.self_attn.rope = rope


LLAMA = Family(
    model=llama.Model,
    config=_config,
    modules=DECODER_MODULES,
    interleaves=True,
    others={"rope_freqs.weight": _scale_rope},
)
