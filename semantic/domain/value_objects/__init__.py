"""Frozen, validated values: what a cache costs, how to sample, what came out."""

from semantic.domain.value_objects.cache_spec import ModelCacheSpec
from semantic.domain.value_objects.completion import Completion, Delta, FinishReason, Timings, Usage
from semantic.domain.value_objects.kv_precision import KVPrecision
from semantic.domain.value_objects.layer_spec import LayerKind, LayerSpec
from semantic.domain.value_objects.sampling import SamplingParams
from semantic.domain.value_objects.sizes import format_size, parse_size

__all__ = [
    "Completion",
    "Delta",
    "FinishReason",
    "KVPrecision",
    "LayerKind",
    "LayerSpec",
    "ModelCacheSpec",
    "SamplingParams",
    "Timings",
    "Usage",
    "format_size",
    "parse_size",
]
