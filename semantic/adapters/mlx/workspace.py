"""How much memory a forward takes at most, from the shapes of a model's layers.

Peak of the default model, paged, chunks of 256 and rows of 16: 7.3 MB by MLX's counter and 8 MB resident. Here 14 MB
are reserved for it, and as much for MLX's cache of freed buffers.
"""

from collections.abc import Iterator
from typing import Any

import mlx.nn as nn

from semantic.adapters.mlx.model_args import first_positive
from semantic.domain.value_objects import ModelCacheSpec, Workspace

_BYTES = 4  # whatever the model computes in, some operations go through float32
_HIDDEN_ARRAYS = 6  # of one layer at once: input, norms, residual, queries as they are turned
_LOGIT_ARRAYS = 4  # logits, their exponents, log-probabilities, and a copy to choose from
_SCORE_ARRAYS = 2  # scores and their softmax
_EXPERTS = 8  # that a token is sent to, at most
_DECODED_ARRAYS = 4  # of one layer of a block at rest: its codes in bytes, as numbers, rotated, scaled
_MOST_CACHE_BYTES = 64_000_000
_STATE_ARRAYS = 4  # a recurrent layer's scan keeps a state for every token of a chunk


def estimate(
    model: nn.Module,
    spec: ModelCacheSpec,
    *,
    vocab_size: int,
    chunk_tokens: int,
    decode_tokens: int,
    is_tiled: bool,
    decodes_blocks: bool,
) -> Workspace:
    """``decode_tokens``: fed in one decode step. ``is_tiled``: attention never holds the scores of a whole chunk.

    ``decodes_blocks``: blocks rest quantised.
    """
    width = max((_layer_width(layer) for layer in _layers(model)), default=0)
    recurrent = sum(layer.state_bytes for layer in spec.layers) // max(1, spec.num_layers)
    chunk = chunk_tokens * width * _BYTES + min(chunk_tokens, 256) * recurrent * _STATE_ARRAYS
    logits = decode_tokens * vocab_size * _BYTES * _LOGIT_ARRAYS
    blocks = _DECODED_ARRAYS * spec.bytes_per_block // max(1, spec.num_layers) if decodes_blocks else 0
    cache = min(max(chunk, logits), _MOST_CACHE_BYTES)
    return Workspace(
        fixed_bytes=max(chunk, logits) + blocks + cache,
        cache_bytes=cache,
        chunk_tokens=chunk_tokens,
        bytes_per_score=0 if is_tiled else _query_heads(model) * _BYTES * _SCORE_ARRAYS,
        bytes_per_context_token=0 if is_tiled else 2 * spec.bytes_per_token // max(1, spec.num_layers),
    )


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The model's blocks: members of lists of modules."""
    for module in model.modules():
        for child in module.children().values():
            if isinstance(child, list):
                yield from (layer for layer in child if isinstance(layer, nn.Module))


def _layer_width(layer: nn.Module) -> int:
    """Numbers that one token takes in a layer: what its projections give, twice, and the hidden ones between."""
    widths = [_outputs(module) for module in layer.modules()]
    hidden = min((width for width in widths if width), default=0)
    return 2 * sum(widths) + _HIDDEN_ARRAYS * max(hidden, max(widths, default=0) // 3)


def _outputs(module: Any) -> int:
    weight = module.get("weight") if isinstance(module, dict) else None
    if weight is None or weight.ndim < 2:
        return 0
    return int(weight.shape[-2]) * (min(weight.shape[0], _EXPERTS) if weight.ndim == 3 else 1)


def _query_heads(model: nn.Module) -> int:
    return first_positive(model, "num_attention_heads", "n_heads", "n_head") or 1
