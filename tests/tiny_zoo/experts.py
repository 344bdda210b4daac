"""Mixtures of experts over plain attention."""

from typing import Any

from tiny_zoo.full_attention import dense

_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_ROUTED: dict[str, Any] = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "first_k_dense_replace": 1,
}

EXPERTS: dict[str, dict[str, Any]] = {
    "bailing_moe": dense("bailing_moe", **_EXPERTS, num_shared_experts=1, norm_topk_prob=True, first_k_dense_replace=1),
    "dbrx": {
        "model_type": "dbrx",
        "d_model": 64,
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000},
        "n_layers": 2,
        "n_heads": 4,
        "vocab_size": 128,
    },
    "deepseek": dense(
        "deepseek", n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=32
    ),
    "dots1": dense("dots1", **_ROUTED),
    "ernie4_5_moe": dense("ernie4_5_moe", use_bias=False, moe_num_experts=4, moe_k=2, moe_intermediate_size=32),
    "glm4_moe": dense(
        "glm4_moe",
        **_ROUTED,
        n_group=2,
        topk_group=1,
        head_dim=16,
        rope_scaling=None,
        use_qk_norm=True,
        attention_bias=False,
        partial_rotary_factor=0.5,
    ),
    "granitemoe": dense(
        "granitemoe",
        logits_scaling=1.0,
        attention_multiplier=0.25,
        embedding_multiplier=1.0,
        residual_multiplier=1.0,
        attention_bias=False,
        num_local_experts=4,
        num_experts_per_tok=2,
    ),
    "Klear": dense(
        "Klear",
        **_EXPERTS,
        num_key_value_heads=4,
        attention_bias=False,
        mlp_only_layers=[0],
        decoder_sparse_step=2,
        n_shared_experts=1,
        norm_topk_prob=True,
    ),
    "minimax": dense(
        "minimax",
        num_experts_per_tok=2,
        num_local_experts=4,
        shared_intermediate_size=32,
        rotary_dim=8,
        head_dim=16,
    ),
    "mixtral": dense("mixtral", num_experts_per_tok=2, num_local_experts=4),
    "olmoe": dense("olmoe", num_experts=4, num_experts_per_tok=2),
    "phimoe": dense(
        "phimoe",
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_scaling={
            "type": "longrope",
            "long_factor": [1.0] * 8,
            "short_factor": [1.0] * 8,
            "long_mscale": 1.24,
            "short_mscale": 1.24,
            "original_max_position_embeddings": 4096,
        },
    ),
    "phixtral": {
        "model_type": "phixtral",
        "num_vocab": 128,
        "model_dim": 64,
        "num_heads": 4,
        "num_layers": 2,
        "rotary_dim": 8,
        "num_experts_per_tok": 2,
        "num_local_experts": 4,
    },
    "qwen2_moe": dense("qwen2_moe", **_EXPERTS, shared_expert_intermediate_size=32),
    "qwen3_moe": dense(
        "qwen3_moe", **_EXPERTS, head_dim=16, decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=True
    ),
    "solar_open": dense(
        "solar_open", **_ROUTED, head_dim=16, partial_rotary_factor=0.5, use_qk_norm=True, n_group=1, topk_group=1
    ),
}
