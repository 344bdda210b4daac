"""Models that attend within chunks, and models whose later layers read the keys and values of earlier ones."""

from typing import Any

from tiny_zoo.full_attention import dense

LLAMA4: dict[str, Any] = dense(
    "llama4",
    attention_bias=False,
    attention_chunk_size=8,
    head_dim=16,
    interleave_moe_layer_step=2,
    intermediate_size_mlp=96,
    num_experts_per_tok=1,
    num_hidden_layers=4,
    num_local_experts=2,
    rope_scaling=None,
    use_qk_norm=True,
)

CHUNKED_AND_SHARED: dict[str, dict[str, Any]] = {
    "llama4": {"model_type": "llama4", "text_config": LLAMA4, "num_hidden_layers": 4, "vocab_size": 128},
    "llama4_text": dense("llama4_text", intermediate_size_mlp=96, head_dim=16, no_rope_layers=[0, 1], use_qk_norm=True),
    "afm7": {
        "model_type": "afm7",
        "vocab_size": 128,
        "hidden_dim": 64,
        "num_layers": 4,
        "num_hidden_layers": 4,
        "num_kv_reuse_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "hidden_dim_scale_factor": 2.0,
    },
    "gemma3n": {
        "model_type": "gemma3n",
        "vocab_size": 128,
        "text_config": dense(
            "gemma3n",
            num_hidden_layers=4,
            head_dim=16,
            num_kv_shared_layers=2,
            vocab_size_per_layer_input=128,
            sliding_window=8,
            rope_local_base_freq=1e3,
            final_logit_softcapping=30.0,
            layer_types=["sliding_attention", "full_attention"] * 2,
            activation_sparsity_pattern=[0.5] * 4,
            hidden_size_per_layer_input=32,
            altup_num_inputs=4,
            altup_coef_clip=1.0,
            altup_correct_scale=True,
            altup_active_idx=0,
            laurel_rank=8,
        ),
    },
    "hunyuan with shared layers": dense(
        "hunyuan",
        attention_bias=False,
        moe_topk=2,
        num_experts=2,
        num_shared_expert=1,
        use_mixed_mlp_moe=True,
        use_qk_norm=True,
        rope_scaling={"alpha": 1000.0, "factor": 1.0, "type": "dynamic"},
        use_cla=True,
        cla_share_factor=2,
    ),
}
