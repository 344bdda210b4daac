"""Frozen, validated values: what a cache costs, what its contents are called, how to sample, what came out."""

from semantic.domain.value_objects.agent_record import AgentKind, AgentRecord, Checkpoint, HistoryEntry
from semantic.domain.value_objects.cache_context import CacheContext, block_hash, check_namespace
from semantic.domain.value_objects.cache_spec import ModelCacheSpec
from semantic.domain.value_objects.chat_options import ChatOptions
from semantic.domain.value_objects.completion import (
    Completion,
    Delta,
    FinishReason,
    Timings,
    TokenLogprobs,
    Usage,
)
from semantic.domain.value_objects.kv_precision import KVPrecision
from semantic.domain.value_objects.layer_spec import LayerKind, LayerSpec
from semantic.domain.value_objects.packed_tokens import common_tokens, pack_tokens, unpack_tokens
from semantic.domain.value_objects.rest_precision import RestPrecision
from semantic.domain.value_objects.reuse import Reuse
from semantic.domain.value_objects.sampling import LogitsProcessor, SamplingParams
from semantic.domain.value_objects.sizes import format_size, parse_size
from semantic.domain.value_objects.terms import Priority, Terms
from semantic.domain.value_objects.workspace import Workspace

__all__ = [
    "AgentKind",
    "AgentRecord",
    "CacheContext",
    "ChatOptions",
    "Checkpoint",
    "Completion",
    "Delta",
    "FinishReason",
    "HistoryEntry",
    "KVPrecision",
    "LayerKind",
    "LayerSpec",
    "LogitsProcessor",
    "ModelCacheSpec",
    "Priority",
    "RestPrecision",
    "Reuse",
    "SamplingParams",
    "Terms",
    "Timings",
    "TokenLogprobs",
    "Usage",
    "Workspace",
    "block_hash",
    "check_namespace",
    "common_tokens",
    "format_size",
    "pack_tokens",
    "parse_size",
    "unpack_tokens",
]
