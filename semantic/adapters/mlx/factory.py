"""Prepares loaded mlx_lm models for the engine's thread."""

from collections.abc import Callable
from typing import Any

import attrs
import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from semantic.adapters.mlx.cache_probe import derive_cache_spec
from semantic.adapters.mlx.fingerprint import identified
from semantic.adapters.mlx.host_quantised_layer import KERNEL as HOST_QUANTISED_KERNEL
from semantic.adapters.mlx.host_quantised_layer import attends_on_host
from semantic.adapters.mlx.lanes import RAGGED, Lane, choose_lane, make_memory
from semantic.adapters.mlx.materialise import materialise
from semantic.adapters.mlx.model import MLXLanguageModel
from semantic.adapters.mlx.model_args import first_positive
from semantic.adapters.mlx.quantised_layers import quantised_spec
from semantic.adapters.mlx.runtime import Runtime
from semantic.adapters.mlx.team import Team
from semantic.adapters.mlx.workspace import estimate
from semantic.adapters.quantisation.choose import codec_for
from semantic.adapters.quantisation.kv_codec import KVCodec
from semantic.application.engine_options import EngineOptions
from semantic.application.kv_bits import bits_of_sides
from semantic.application.ports.model import ModelProfile
from semantic.application.ports.model_source import LoadedModel
from semantic.application.ports.telemetry import Telemetry
from semantic.application.speculation import most_tokens_fed
from semantic.domain.errors import UnsupportedPrecisionError
from semantic.domain.value_objects import KVPrecision, LayerKind

REFERENCE_PREFILL_STEP_SIZE = 2048
"""mlx_lm's own chunk. The bit lane keeps it."""

_CPU_PREFILL_STEP_SIZE = 256
"""On CPU a chunk of one block prefills fastest (ADR 0006), and no chunk straddles blocks."""


PAGED_KERNEL = "paged attention 1"
"""Goes up when the attention over pages changes the bits it gives."""


class MLXModelFactory:
    """Probes a model's caches and chooses its lane. ``threads``: how many work on what runs in numpy."""

    def __init__(self, prepare_runtime: Callable[[], Runtime], telemetry: Telemetry, threads: int) -> None:
        self._prepare_runtime, self._telemetry = prepare_runtime, telemetry
        self._threads = threads

    def adopt(self, model: nn.Module, tokenizer: Any) -> LoadedModel:
        """Take a pair as it is: its dtype and quantisation stay."""
        self._prepare_runtime()
        return LoadedModel(getattr(model, "model_type", type(model).__name__), model, tokenizer)

    def prepare(self, loaded: LoadedModel, options: EngineOptions) -> "PreparedMLXModel":
        """Evaluate every array here and now, so that another thread may use it; then look at the caches."""
        runtime = self._prepare_runtime()
        materialise(loaded.model)
        loaded = identified(loaded)
        spec = derive_cache_spec(loaded.model)
        if options.kv_bits is not None:
            key_bits, value_bits = bits_of_sides(options.kv_bits)
            differing = None if value_bits == key_bits else value_bits
            spec = quantised_spec(loaded.model, spec, key_bits, options.kv_group_size, differing)
        context_length = _context_length(loaded.model)
        lane = choose_lane(
            loaded.model,
            spec,
            layout=options.cache_layout,
            exactness=options.exactness,
            device=runtime.device,
            context_length=context_length,
        )
        codec = codec_for(options.kv_at_rest, spec)
        if codec is not None and any(layer.kind is LayerKind.LATENT for layer in spec.layers):
            raise UnsupportedPrecisionError(
                f"kv_at_rest={options.kv_at_rest!r} would round the keys by which {loaded.name} chooses what it "
                'attends to; leave kv_at_rest at "exact"'
            )
        vocab_size = _vocab_size(loaded.model)
        step_size = options.prefill_step_size or _step_size(lane, runtime.device)
        drafted = 0 if lane.verifies_drafts(spec) == "never" else options.prompt_lookup_num_tokens
        workspace = estimate(
            loaded.model,
            spec,
            vocab_size=vocab_size,
            chunk_tokens=step_size,
            decode_tokens=most_tokens_fed(options.max_num_seqs, drafted),
            is_tiled=lane.layout == "paged" or runtime.device != "cpu",
            decodes_blocks=codec is not None,
        )
        self._telemetry.event("model.lane", model=loaded.name, **attrs.asdict(lane))
        profile = ModelProfile(
            name=loaded.name,
            vocab_size=vocab_size,
            context_length=None if lane.stretches else context_length,
            cache_spec=spec,
            compute_dtype=spec.precision.dtype,
            device=runtime.device,
            batching=lane.batching,
            cache_layout=lane.layout,
            prefill_step_size=step_size,
            reuse=lane.reuse,
            numerics=_numerics(runtime, lane, spec.precision),
            weight_bytes=sum(array.nbytes for _, array in tree_flatten(loaded.model.parameters())),
            fingerprint=loaded.fingerprint,
            adapters=loaded.adapters,
            kv_at_rest=options.kv_at_rest,
            lane_reason=lane.reason,
            workspace=workspace,
            verifies_drafts=lane.verifies_drafts(spec),
        )
        return PreparedMLXModel(loaded.model, profile, lane, self._threads, codec)


@attrs.frozen
class PreparedMLXModel:
    """A model on its way to the engine's thread."""

    _model: nn.Module
    profile: ModelProfile
    _lane: Lane
    _threads: int
    _codec: KVCodec | None = None

    def build(self, num_blocks: int) -> MLXLanguageModel:
        """Make the pool's physical memory and bind the seam. Nothing stays behind if the memory is refused."""
        team = Team(self._threads)
        try:
            memory = make_memory(self._model, self.profile.cache_spec, self._lane, num_blocks, team, self._codec)
            return MLXLanguageModel(self._model, self.profile, memory, team)
        except BaseException:
            team.close()
            raise


def _numerics(runtime: Runtime, lane: Lane, precision: KVPrecision) -> str:
    """The operations that the bits of keys and values depend on, in their versions to the minor one."""
    versions = (f"mlx {_minor(runtime.mlx_version)}", f"mlx-lm {_minor(runtime.mlx_lm_version)}")
    if lane.layout == "paged":
        kernel = PAGED_KERNEL
    elif lane.batching == RAGGED and attends_on_host(precision):
        kernel = HOST_QUANTISED_KERNEL
    else:
        kernel = "mlx attention"
    return ", ".join((runtime.device, *versions, kernel))


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _step_size(lane: Lane, device: str) -> int:
    if lane.reference_chunks or device != "cpu":
        return REFERENCE_PREFILL_STEP_SIZE
    return _CPU_PREFILL_STEP_SIZE


def _vocab_size(model: nn.Module) -> int:
    """What the logits' last axis is. They are computed: what is left lazy here could not be run on another thread."""
    from mlx_lm.models.cache import make_prompt_cache

    logits = model(mx.zeros((1, 1), mx.uint32), cache=make_prompt_cache(model))
    mx.eval(logits)
    return int(logits.shape[-1])


def _context_length(model: nn.Module) -> int | None:
    """``max_position_embeddings`` of the model's arguments; GPT-2's ``n_positions``."""
    return first_positive(model, "max_position_embeddings", "n_positions")
