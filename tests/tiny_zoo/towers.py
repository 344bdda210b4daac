"""The language towers of models that see, wrapped the way mlx_lm wraps them."""

from typing import Any

from tiny_zoo.full_attention import dense
from tiny_zoo.latent_attention import LATENT_ATTENTION
from tiny_zoo.recurrent import LFM2
from tiny_zoo.windows import GEMMA4, WINDOW, WINDOWS


def tower(model_type: str, text_config: dict[str, Any]) -> dict[str, Any]:
    """A wrapper around a language model of this configuration."""
    layers = text_config["num_hidden_layers"]
    return {"model_type": model_type, "text_config": text_config, "num_hidden_layers": layers, "vocab_size": 128}


TOWERS: dict[str, dict[str, Any]] = {
    "gemma3 tower": tower("gemma3", dense("gemma3_text", head_dim=16, sliding_window=WINDOW, sliding_window_pattern=2)),
    "gemma4 tower": tower("gemma4", GEMMA4),
    "kimi_vl": tower("kimi_vl", LATENT_ATTENTION["deepseek_v3"]),
    "kimi_k25": tower("kimi_k25", LATENT_ATTENTION["deepseek_v3"] | {"model_type": "kimi_k25"}),
    "kimi_k3": tower(
        "kimi_k3",
        dense(
            "kimi_linear",
            hidden_act="situ",
            activation_situ_beta=4.0,
            num_hidden_layers=4,
            num_key_value_heads=4,
            linear_attn_config={
                "num_heads": 4,
                "head_dim": 32,
                "kda_layers": [1, 3],
                "full_attn_layers": [2, 4],
                "short_conv_kernel_size": 3,
            },
            kv_lora_rank=16,
            q_lora_rank=16,
            qk_nope_head_dim=16,
            qk_rope_head_dim=8,
            v_head_dim=16,
            num_experts=4,
            num_experts_per_token=2,
            num_shared_experts=1,
            moe_intermediate_size=32,
            first_k_dense_replace=1,
            attn_res_block_size=2,
        ),
    ),
    "minimax_m3_vl with an index": tower(
        "minimax_m3_vl",
        dense(
            "minimax_m3",
            num_hidden_layers=3,
            dense_intermediate_size=96,
            shared_intermediate_size=32,
            intermediate_size=32,
            head_dim=16,
            rotary_dim=8,
            num_local_experts=4,
            num_experts_per_tok=2,
            moe_layer_freq=[0, 1, 1],
            sparse_attention_freq=[0, 1, 1],
            index_n_heads=2,
            index_head_dim=16,
            index_block_size=4,
            index_topk_blocks=3,
        ),
    ),
    "lfm2-vl": tower("lfm2-vl", LFM2),
    "mistral3": tower("mistral3", WINDOWS["ministral3"]),
    "pixtral": tower("pixtral", dense("llama")),
    "qwen2_vl": tower("qwen2_vl", dense("qwen2")),
    "qwen3_vl": tower("qwen3_vl", dense("qwen3", head_dim=16)),
    "qwen3_vl_moe": tower(
        "qwen3_vl_moe",
        dense(
            "qwen3_moe",
            head_dim=16,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            decoder_sparse_step=1,
            mlp_only_layers=[],
            norm_topk_prob=True,
        ),
    ),
}
