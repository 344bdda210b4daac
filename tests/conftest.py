"""OpenBLAS before any test module imports MLX, as the library does it; and the tiny models that tests run."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from semantic.adapters.mlx import blas

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the cores are taken by processes already
blas.activate()

settings.register_profile("without deadlines", deadline=None)  # an example is slow when others have the processor
settings.load_profile("without deadlines")
os.environ["SEMANTIC_LIVE_STATS"] = "false"  # engines of tests are nobody's to watch

TinyLlama = Callable[..., Any]


@pytest.fixture(scope="session")
def tiny_llama() -> TinyLlama:
    """Builds a llama of 2 layers, 4 heads on 2 KV heads, 128 tokens, float32; always the same random weights.

    The weights are lazy: whoever wants them evaluated says so. Keywords replace fields of its ``ModelArgs``.
    """

    def build(**changes: Any) -> Any:
        import mlx.core as mx
        from mlx.utils import tree_map
        from mlx_lm.models import llama

        fields: dict[str, Any] = {
            "model_type": "llama",
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
        mx.random.seed(7)
        model = llama.Model(llama.ModelArgs(**{**fields, **changes}))
        # Wider than mlx's own initial weights, so that no token wins by a hair and texts vary.
        model.update(tree_map(lambda weight: weight * 4.0 if weight.ndim > 1 else weight, model.parameters()))
        return model

    return build
