"""Tiny models with random weights, made in memory, and what stock mlx_lm says with them."""

import importlib
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from attrs import frozen
from mlx.utils import tree_map
from mlx_lm.generate import generate_step

CHUNK = 16
NEW_TOKENS = 6

DENSE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 128,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
GPT = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 256, "layer_norm_epsilon": 1e-5, "vocab_size": 128}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN_ROPE = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
DYNAMIC_NTK_ROPE = {"type": "dynamic", "factor": 2.0}
POSITION_SCALED = {
    "rope_theta": 1e4,
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32,
    "beta_slow": 1,
    "llama_4_scaling_beta": 5.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


@frozen
class Architecture:
    """The module of mlx_lm that has it, the arguments of a tiny one, and how the engine should run it on CPU."""

    module: str
    arguments: dict[str, Any]
    batching: str = "ragged"
    layout: str = "paged"


ROWS = ("ragged", "contiguous")
PADDED = ("padded", "contiguous")
ONE_BY_ONE = ("one by one", "contiguous")

ARCHITECTURES = {
    "llama": Architecture("llama", DENSE),
    "llama3 rope": Architecture("llama", DENSE | {"rope_scaling": LLAMA3_ROPE}),
    "yarn rope": Architecture("llama", DENSE | {"rope_scaling": YARN_ROPE}),
    "sliding llama": Architecture(
        "llama", DENSE | {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 16}, *ROWS
    ),
    "qwen2": Architecture("qwen2", DENSE | {"rope_theta": 1e4}),
    "qwen3": Architecture("qwen3", DENSE | {"rope_theta": 1e4, "head_dim": 16}),
    "gemma2": Architecture(
        "gemma2",
        without(DENSE, "max_position_embeddings", "tie_word_embeddings")
        | {"head_dim": 16, "query_pre_attn_scalar": 16.0},
        *PADDED,
    ),
    "gemma3": Architecture(
        "gemma3_text",
        without(DENSE, "tie_word_embeddings") | {"head_dim": 16, "sliding_window": 16, "sliding_window_pattern": 2},
        *ROWS,
    ),
    "gpt2": Architecture("gpt2", GPT | {"n_ctx": 256}),
    "gpt_bigcode": Architecture("gpt_bigcode", GPT | {"n_inner": 96}, *ONE_BY_ONE),
    "ministral3": Architecture("ministral3", DENSE | {"head_dim": 16, "rope_parameters": POSITION_SCALED}),
    "dynamic ntk": Architecture(
        "internlm2",
        DENSE | {"bias": False, "max_position_embeddings": 48, "rope_scaling": DYNAMIC_NTK_ROPE},
        *ONE_BY_ONE,
    ),
    "deepseek_v2": Architecture(
        "deepseek_v2",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "intermediate_size": 96,
            "moe_intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 16,
            "v_head_dim": 16,
            "rope_scaling": {
                "type": "yarn",
                "factor": 4.0,
                "mscale": 1.0,
                "mscale_all_dim": 0.7,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "mamba": Architecture(
        "mamba",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "intermediate_size": 96,
            "state_size": 8,
            "num_hidden_layers": 2,
            "conv_kernel": 4,
            "use_bias": False,
            "use_conv_bias": True,
            "time_step_rank": 4,
        },
        *ROWS,
    ),
    "lfm2": Architecture(
        "lfm2",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1000,
            "norm_eps": 1e-6,
            "conv_bias": True,
            "conv_L_cache": 3,
            "block_dim": 64,
            "block_ff_dim": 96,
            "block_multiple_of": 32,
            "block_ffn_dim_multiplier": 1.0,
            "block_auto_adjust_ff_dim": True,
            "rope_theta": 1e4,
            "layer_types": ["conv", "full_attention"],
        },
        *ROWS,
    ),
}


def prompt(tokens: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(tokens).integers(0, 128, tokens)]


PROMPTS = [prompt(tokens) for tokens in (5, 23, 40)]
"""Less than a chunk, more than one, more than two."""


def build(architecture: Architecture, weights: float = 3.0) -> nn.Module:
    """A model whose weights are still lazy, wide enough that no token wins by a hair."""
    module: Any = importlib.import_module(f"mlx_lm.models.{architecture.module}")
    mx.random.seed(7)
    model = module.Model(module.ModelArgs(**{"model_type": architecture.module, **architecture.arguments}))
    model.update(tree_map(lambda array: array * weights if array.ndim > 1 else array, model.parameters()))
    return model


@frozen
class Reference:
    """What stock mlx_lm drew, and the log-probabilities it drew from."""

    tokens: list[tuple[int, ...]]
    logprobs: list[np.ndarray[Any, Any]]

    def is_bit_equal(self, other: "Reference") -> bool:
        return self.tokens == other.tokens and all(map(np.array_equal, self.logprobs, other.logprobs))


def reference(model: nn.Module, prefill_step_size: int = CHUNK) -> Reference:
    runs = [
        list(generate_step(mx.array(ids), model, max_tokens=NEW_TOKENS, prefill_step_size=prefill_step_size))
        for ids in PROMPTS
    ]
    return Reference(
        [tuple(token for token, _ in run) for run in runs],
        [np.array(logprobs.astype(mx.float32)) for run in runs for _, logprobs in run],
    )
