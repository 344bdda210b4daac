"""Models whose every layer keeps the keys and values of all tokens."""

from typing import Any

DENSE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 128,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
GPT: dict[str, Any] = {
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 1024,
    "layer_norm_epsilon": 1e-5,
    "vocab_size": 128,
}
YARN: dict[str, Any] = {"rope_type": "yarn", "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG_ROPE: dict[str, Any] = {
    "type": "longrope",
    "long_factor": [1.5] * 8,
    "short_factor": [1.0] * 8,
    "long_mscale": 1.2,
    "short_mscale": 1.2,
    "original_max_position_embeddings": 32,
}


def dense(model_type: str, **fields: Any) -> dict[str, Any]:
    """The plainest configuration, with these fields added or changed."""
    return DENSE | {"model_type": model_type} | fields


FULL_ATTENTION: dict[str, dict[str, Any]] = {
    "llama": dense("llama"),
    "llama with YaRN": dense("llama", rope_scaling=YARN),
    "apertus": dense("apertus", mlp_bias=True, attention_bias=False, post_norm=True, qk_norm=True),
    "cohere": dense("cohere", layer_norm_eps=1e-5, logit_scale=0.25),
    "ernie4_5": dense("ernie4_5", head_dim=16, use_bias=False),
    "exaone": dense("exaone", num_layers=2, layer_norm_epsilon=1e-5),
    "gemma": dense("gemma", head_dim=16),
    "gemma2": dense("gemma2", head_dim=16, query_pre_attn_scalar=16.0),
    "glm": dense("glm", head_dim=16),
    "glm4": dense("glm4", head_dim=16, attention_bias=False, partial_rotary_factor=0.5),
    "gpt2": GPT | {"model_type": "gpt2", "n_ctx": 1024},
    "gpt_bigcode": GPT | {"model_type": "gpt_bigcode", "n_inner": 96},
    "gpt_neox": dense("gpt_neox", layer_norm_eps=1e-5, rotary_emb_base=10000, rotary_pct=0.25),
    "gptj": GPT | {"model_type": "gptj", "rotary_dim": 8},
    "granite": dense(
        "granite",
        logits_scaling=1.0,
        attention_multiplier=0.25,
        embedding_multiplier=1.0,
        residual_multiplier=1.0,
        attention_bias=False,
        mlp_bias=False,
    ),
    "helium": dense("helium", head_dim=16, attention_bias=False, mlp_bias=False),
    "hunyuan_v1_dense": dense(
        "hunyuan_v1_dense",
        attention_bias=False,
        use_qk_norm=True,
        rope_scaling={"alpha": 1000.0, "factor": 1.0, "type": "dynamic"},
    ),
    "internlm2": dense("internlm2", bias=False),
    "internlm2 with dynamic NTK": dense(
        "internlm2", bias=False, max_position_embeddings=48, rope_scaling={"type": "dynamic", "factor": 2.0}
    ),
    "internlm3": dense("internlm3", bias=False, qkv_bias=False),
    "lille-130m": {
        "model_type": "lille-130m",
        "block_size": 128,
        "num_hidden_layers": 2,
        "n_layer": 2,
        "n_head": 4,
        "n_kv_heads": 2,
        "n_embd": 64,
        "vocab_size": 128,
        "rope_theta": 10000.0,
        "layer_norm_eps": 1e-5,
    },
    "mimo": dense("mimo"),
    "minicpm": dense("minicpm", dim_model_base=64, scale_depth=1.0, scale_emb=1.0),
    "nanbeige": dense("nanbeige", num_loops=2),
    "nanochat": dense("nanochat", num_key_value_heads=4),
    "nemotron": dense("nemotron", hidden_act="relu2", norm_eps=1e-5, partial_rotary_factor=0.5),
    "nemotron-nas": {
        "model_type": "nemotron-nas",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": 128,
        "block_configs": [
            {
                "attention": {"n_heads_in_group": 2, "no_op": no_op, "replace_with_linear": False},
                "ffn": {"ffn_mult": 1.3125, "no_op": False, "replace_with_linear": False},
            }
            for no_op in (False, True, False)
        ],
    },
    "olmo2": dense("olmo2", attention_bias=False),
    "openelm": {
        "model_type": "openelm",
        "ffn_dim_divisor": 16,
        "ffn_multipliers": [1.0, 1.5],
        "head_dim": 16,
        "model_dim": 64,
        "normalize_qk_projections": True,
        "num_kv_heads": [2, 1],
        "num_query_heads": [4, 4],
        "num_transformer_layers": 2,
        "vocab_size": 128,
    },
    "phi": dense("phi", partial_rotary_factor=0.5, layer_norm_eps=1e-5),
    "phi3": dense("phi3"),
    "phi3 with long RoPE": dense("phi3", rope_scaling=LONG_ROPE, original_max_position_embeddings=32),
    "plamo": dense("plamo", num_attention_heads=8, n_shared_head=4),
    "qwen": {
        "model_type": "qwen",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "kv_channels": 16,
        "intermediate_size": 96,
        "vocab_size": 128,
    },
    "qwen2": dense("qwen2"),
    "qwen3": dense("qwen3", head_dim=16),
    "seed_oss": dense("seed_oss", head_dim=16),
    "smollm3": dense("smollm3"),
    "stablelm": dense("stablelm", partial_rotary_factor=0.5, layer_norm_eps=1e-5, use_qkv_bias=True),
    "starcoder2": dense("starcoder2", norm_epsilon=1e-5),
    "talkie": dense("talkie", head_dim=16),
    "telechat3": dense("telechat3"),
}
