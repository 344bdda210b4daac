"""Models that keep latent vectors instead of keys and values, with and without an index of their own beside them."""

from typing import Any

from tiny_zoo.full_attention import dense

_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
_EXPERTS: dict[str, Any] = {
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "routed_scaling_factor": 1.0,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "norm_topk_prob": True,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "attention_bias": False,
}
_YARN: dict[str, Any] = {
    "type": "yarn",
    "factor": 4.0,
    "mscale": 1.0,
    "mscale_all_dim": 0.7,
    "beta_fast": 32,
    "beta_slow": 1,
    "original_max_position_embeddings": 64,
}
_INDEX: dict[str, Any] = {"index_head_dim": 16, "index_n_heads": 2, "index_topk": 12}
_LONGCAT: dict[str, Any] = _LATENT | {
    "attention_method": "MLA",
    "zero_expert_type": "identity",
    "ffn_hidden_size": 96,
    "moe_topk": 2,
    "expert_ffn_hidden_size": 32,
    "n_routed_experts": 2,
    "zero_expert_num": 2,
    "num_layers": 2,
    "routed_scaling_factor": 1.0,
    "mla_scale_q_lora": True,
    "mla_scale_kv_lora": True,
    "attention_bias": False,
}

LATENT_ATTENTION: dict[str, dict[str, Any]] = {
    "deepseek_v2": dense("deepseek_v2", **_LATENT, moe_intermediate_size=32, rope_scaling=_YARN),
    "deepseek_v3": dense("deepseek_v3", **_LATENT, **_EXPERTS, rope_scaling=_YARN),
    "deepseek_v32 with an index": dense("deepseek_v32", **_LATENT, **_EXPERTS, **_INDEX, rope_scaling=_YARN),
    "glm_moe_dsa with an index": dense(
        "glm_moe_dsa", **_LATENT, **_EXPERTS, **_INDEX, rope_parameters={"rope_theta": 1e4, "rope_type": "default"}
    ),
    "glm4_moe_lite": dense(
        "glm4_moe_lite", **_LATENT, **_EXPERTS | {"n_group": 1}, rope_scaling=None, partial_rotary_factor=1.0
    ),
    "minicpm3": dense(
        "minicpm3",
        **{name: size for name, size in _LATENT.items() if name != "v_head_dim"},
        dim_model_base=64,
        scale_depth=1.0,
        scale_emb=1.0,
        rope_scaling={
            "type": "longrope",
            "long_factor": [1.5] * 4,
            "short_factor": [1.0] * 4,
            "original_max_position_embeddings": 32,
        },
    ),
    "longcat_flash": dense("longcat_flash", **_LONGCAT),
    "longcat_flash_ngram": dense("longcat_flash_ngram", **_LONGCAT),
    "mistral4": dense(
        "mistral4",
        **_LATENT,
        **_EXPERTS | {"n_group": 1},
        rope_parameters=_YARN | {"rope_theta": 1e4, "rope_type": "yarn", "llama_4_scaling_beta": 0.5},
    ),
    "youtu_llm": dense("youtu_llm", **_LATENT),
}
