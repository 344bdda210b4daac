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
