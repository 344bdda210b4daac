"""A model without its weights: made from a folder's config.json alone. Nothing is read besides, nothing computed."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from semantic.adapters.mlx.cache_probe import flatten_caches
from semantic.adapters.mlx.quantised_layers import check_group_size, require_quantisable


def refuse_kv_bits(path: Path, kv_group_size: int) -> None:
    """Raise ``UnsupportedPrecisionError`` if the model at ``path`` can't have its caches quantised.

    What can't be told from a configuration alone passes; it is found out once the weights are there.
    """
    try:
        model = _skeleton(path)
        caches = make_prompt_cache(model)
    except Exception:  # noqa: BLE001 - whatever keeps it from being built, loading will say it better
        return
    require_quantisable(list(flatten_caches(caches)))
    check_group_size(_head_dims(model, caches), kv_group_size)


def _skeleton(path: Path) -> nn.Module:
    """Its weights are random and lazy."""
    from mlx_lm.utils import _get_classes

    config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    model_class, arguments = _get_classes(config)
    model: nn.Module = model_class(arguments.from_dict(config))
    return model


def _head_dims(model: nn.Module, caches: list[Any]) -> list[int]:
    """The widths of keys and values, from a forward that stays lazy; none if that can't be."""
    try:
        model(mx.zeros((1, 1), mx.uint32), cache=caches)
    except Exception:  # noqa: BLE001 - as above
        return []
    held = [side for cache in flatten_caches(caches) for side in _sides(cache)]
    return sorted({side.shape[-1] for side in held})


def _sides(cache: Any) -> list[mx.array]:
    return [side for name in ("keys", "values") if isinstance(side := getattr(cache, name, None), mx.array)]
