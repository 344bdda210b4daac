"""A zoo of tiny models with random weights: at least one for each composition of caches that mlx_lm's models make.

Every entry is a configuration in mlx_lm's own words; nothing is downloaded, and each builds in a fraction of a second.
"""

import importlib
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from tiny_zoo.chunked_and_shared import CHUNKED_AND_SHARED
from tiny_zoo.experts import EXPERTS
from tiny_zoo.full_attention import FULL_ATTENTION
from tiny_zoo.latent_attention import LATENT_ATTENTION
from tiny_zoo.recurrent import RECURRENT
from tiny_zoo.towers import TOWERS
from tiny_zoo.windows import WINDOWS

FAMILIES: dict[str, dict[str, dict[str, Any]]] = {
    "full attention": FULL_ATTENTION,
    "windows": WINDOWS,
    "latent attention": LATENT_ATTENTION,
    "chunks and shared layers": CHUNKED_AND_SHARED,
    "recurrent state": RECURRENT,
    "mixtures of experts": EXPERTS,
    "language towers": TOWERS,
}

ZOO: dict[str, dict[str, Any]] = {name: config for family in FAMILIES.values() for name, config in family.items()}


def build_zoo_model(name: str, weights: float = 2.0) -> nn.Module:
    """A model of the zoo, its weights drawn from a fixed seed and wide enough that no token wins by a hair."""
    config = ZOO[name]
    module: Any = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    mx.random.seed(7)
    model = module.Model(module.ModelArgs.from_dict(config))
    model.set_dtype(mx.float32)  # some modules make part of their weights in half precision
    model.update(tree_map(lambda array: _widened(array, weights), model.parameters()))
    return model


def _widened(array: mx.array, weights: float) -> mx.array:
    """Matrices are drawn anew where they were made constant, and widened; vectors stay."""
    if array.ndim < 2 or not mx.issubdtype(array.dtype, mx.floating):
        return array
    if float(array.max()) == float(array.min()):
        array = mx.random.normal(array.shape) / array.shape[-1] ** 0.5
    return array * weights
