"""What there is to know of an architecture to read its GGUF files."""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from semantic.adapters.model_sources.gguf_facts import Facts

DECODER_MODULES: Mapping[str, str] = {
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
"""GGUF's names of modules, and mlx_lm's; those of a layer without its prefix."""

QK_NORMS: Mapping[str, str] = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


@frozen(kw_only=True)
class Family:
    """How the files of one architecture become mlx_lm's own model.

    ``model`` makes it from what ``config`` says. ``modules``: as ``DECODER_MODULES``. ``interleaves``: whether the two
    halves of each query and key head lie interleaved, for llama.cpp's older RoPE. ``norm_offset``: what the file adds
    to the weights of norms. ``others``: tensors that are no parameters, and what each does to a model of a config.
    ``dtype``: the model's own on a GPU.
    """

    model: Callable[[Any], Any]
    config: Callable[[Facts], Any]
    modules: Mapping[str, str]
    interleaves: bool = False
    norm_offset: float = 0.0
    others: Mapping[str, Callable[[Any, Any, Any], None]] = {}
    dtype: str = "float16"
