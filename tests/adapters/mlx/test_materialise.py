"""A model built on one thread runs on another."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models import llama

from semantic.adapters.mlx.materialise import materialise

pytestmark = pytest.mark.mlx

LLAMA3 = {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def tiny(scaling: dict[str, Any] | None) -> llama.Model:
    return llama.Model(
        llama.ModelArgs(
            model_type="llama",
            hidden_size=32,
            num_hidden_layers=2,
            intermediate_size=64,
            num_attention_heads=4,
            rms_norm_eps=1e-5,
            vocab_size=50,
            rope_scaling=scaling,
            max_position_embeddings=256,
        )
    )


def logits(model: llama.Model) -> np.ndarray:
    try:
        return np.array(model(mx.array([[1, 2, 3]])))
    finally:
        mx.synchronize()


@pytest.mark.parametrize("scaling", [None, LLAMA3, YARN], ids=["plain", "llama3", "yarn"])
def test_a_lazy_model_runs_on_another_thread_and_then_here_again(scaling: dict[str, Any] | None) -> None:
    model = tiny(scaling)  # nothing of it is evaluated yet
    materialise(model)
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(logits, model).result()
    np.testing.assert_array_equal(logits(model), elsewhere)


def test_arrays_are_found_wherever_a_module_keeps_them() -> None:
    def lazy() -> mx.array:
        return mx.ones(2) + 1

    class Plain:
        def __init__(self) -> None:
            self.table = lazy()
            self.owner = self  # a cycle

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = lazy()
            self._private = lazy()
            self.nested = [{"a": (lazy(),)}]
            self.helper = Plain()
            captured = lazy()
            self.call = lambda x: x + captured

    assert materialise(Odd()) == 5


def test_values_do_not_change() -> None:
    model = tiny(YARN)
    before = logits(model)
    materialise(model)
    np.testing.assert_array_equal(logits(model), before)
