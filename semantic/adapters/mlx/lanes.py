"""Which way a model runs: paged or contiguous caches, rows together or one by one. Decided by trying.

A lane serves a model only if it gives, for rows of several lengths, the logits that the model's own caches give
(:mod:`semantic.adapters.mlx.trials`). Nothing is decided by a model's name.
"""

from collections.abc import Sequence
from functools import partial

import mlx.nn as nn
from attrs import evolve, frozen

from semantic.adapters.mlx.cache_probe import holds_plain_attention
from semantic.adapters.mlx.contiguous_at_rest import ContiguousMemoryAtRest
from semantic.adapters.mlx.contiguous_cache import ContiguousMemory
from semantic.adapters.mlx.host_quantised_layer import HostQuantisedLayer, attends_on_host
from semantic.adapters.mlx.joined_rows import JoinAttention
from semantic.adapters.mlx.padded_layer import PaddedLayer
from semantic.adapters.mlx.paged_at_rest import PagedMemoryAtRest
from semantic.adapters.mlx.paged_attention import PagedAttention
from semantic.adapters.mlx.paged_cache import PagedMemory
from semantic.adapters.mlx.quantised_layers import make_layers
from semantic.adapters.mlx.rope_probe import depends_on_chunks
from semantic.adapters.mlx.stacked_layer import StackedLayer
from semantic.adapters.mlx.team import Team
from semantic.adapters.mlx.trials import Trials
from semantic.adapters.quantisation.kv_codec import KVCodec
from semantic.domain.value_objects import LayerKind, ModelCacheSpec, Reuse

Memory = PagedMemory | ContiguousMemory

RAGGED, PADDED, ONE_BY_ONE = "ragged", "padded", "one by one"


@frozen
class Lane:
    """A way to run a model, and where its cached contexts may be taken up. ``reason`` says why, for people.

    ``reference_chunks``: whether what the model says depends on the prefill chunk, so that it must be mlx_lm's.
    ``stretches``: whether its positions stretch with the context, which then has no end.
    ``mask_axes``: of the masks that padded rows need; 5 where a model groups the query heads of a key head.
    """

    layout: str
    batching: str
    reason: str = ""
    reuse: Reuse = Reuse.ANYWHERE
    reference_chunks: bool = False
    stretches: bool = False
    mask_axes: int = 4

    def verifies_drafts(self, spec: ModelCacheSpec) -> str:
        """How drafts are verified: how many tokens are fed at once must not matter, and caches must be trimmable.

        Rounding to codes makes large what differs in the last bit, as it does where more tokens are fed at once.
        """
        depends_on_chunks = self.reuse not in (Reuse.ANYWHERE, Reuse.AT_STATES) or self.reference_chunks
        has_states = any(layer.kind is LayerKind.RECURRENT for layer in spec.layers)
        if depends_on_chunks or has_states or spec.precision.is_quantised:
            return "never"
        return "together" if self.layout == "paged" else "apart"


_PAGED = Lane("paged", RAGGED)
_CONTIGUOUS = (
    Lane("contiguous", RAGGED),
    Lane("contiguous", PADDED),
    Lane("contiguous", PADDED, mask_axes=5),
)
"""Lanes whose rows share a forward, the fastest first."""


def choose_lane(
    model: nn.Module,
    spec: ModelCacheSpec,
    *,
    layout: str,
    exactness: str,
    device: str,
    context_length: int | None = None,
) -> Lane:
    """The fastest lane that was seen to agree with the model's own caches.

    ``layout``: ``"auto"``, ``"paged"`` or ``"contiguous"``. ``exactness="bit"`` keeps mlx_lm's operations and shapes.
    """
    plain = holds_plain_attention(model)
    if exactness == "bit":
        return _as_mlx_lm_does("bit exactness keeps mlx_lm's own operations and shapes", plain)
    if depends_on_chunks(model, context_length):
        reason = "its positions depend on how a prompt is cut into chunks (dynamic NTK)"
        return evolve(_as_mlx_lm_does(reason, plain), stretches=True)
    may_page = plain and not spec.precision.is_quantised
    paged_first = may_page and (layout == "paged" or (layout, device) == ("auto", "cpu"))
    trials = Trials(model, spec, plain=plain, context_length=context_length)
    return _first_that_agrees(trials, model, spec, [_PAGED, *_CONTIGUOUS] if paged_first else list(_CONTIGUOUS), plain)


def make_memory(
    model: nn.Module, spec: ModelCacheSpec, lane: Lane, num_blocks: int, team: Team, codec: KVCodec | None = None
) -> Memory:
    """The physical memory of a pool of ``num_blocks``. With a ``codec``, blocks at rest are quantised."""
    if lane.layout == "paged":
        attention = PagedAttention(team)
        if codec is None:
            return PagedMemory(spec, num_blocks, attention)
        return PagedMemoryAtRest(spec, num_blocks, attention, codec, team)
    join = _join_attention(spec, lane, team)
    layers = partial(make_layers, model, spec.precision)
    if codec is None:
        on_host = lane.batching == RAGGED and attends_on_host(spec.precision)
        return ContiguousMemory(layers, spec, join, serves_alone=on_host)
    return ContiguousMemoryAtRest(layers, spec, join).with_codec(codec)


def _join_attention(spec: ModelCacheSpec, lane: Lane, team: Team) -> JoinAttention:
    if lane.batching == PADDED:
        return partial(PaddedLayer, mask_axes=lane.mask_axes)
    return partial(HostQuantisedLayer, team=team) if attends_on_host(spec.precision) else StackedLayer


def _as_mlx_lm_does(reason: str, plain: bool) -> Lane:
    """One row at a time, in mlx_lm's chunks; only what whole chunks computed is taken up again."""
    reuse = Reuse.AT_CHUNKS if plain else Reuse.NEVER
    return Lane("contiguous", ONE_BY_ONE, reason, reuse, reference_chunks=True)


def _first_that_agrees(
    trials: Trials, model: nn.Module, spec: ModelCacheSpec, lanes: Sequence[Lane], plain: bool
) -> Lane:
    reasons = [] if plain else ["some layers keep more than plain keys and values"]
    found = Lane("contiguous", ONE_BY_ONE)
    for lane in lanes:
        refusal = _try(trials, model, spec, lane)
        if refusal is None:
            reasons.append(f"{_rows(lane)} agree with the model's own")
            found = lane
            break
        reasons.append(f"{_rows(lane)} don't: {refusal}")
    if plain and found.batching == RAGGED:  # keys and values that are attended to as they lie can be cut anywhere
        return evolve(found, reason="; ".join(reasons))
    if (refusal := trials.try_chunks()) is not None:
        reuse = Reuse.AT_CHUNKS if plain else Reuse.NEVER
        return evolve(found, reason="; ".join([*reasons, refusal]), reuse=reuse, reference_chunks=True)
    reuse = Reuse.ANYWHERE if plain else Reuse.AT_STATES
    refusal = trials.try_resumed(make_memory(model, spec, Lane("contiguous", ONE_BY_ONE), Trials.ROWS, Team(1)))
    if refusal is not None:
        reasons.append(refusal)
        reuse = Reuse.AT_CHUNKS if plain else Reuse.NEVER
    return evolve(found, reason="; ".join(reasons), reuse=reuse)


def _try(trials: Trials, model: nn.Module, spec: ModelCacheSpec, lane: Lane) -> str | None:
    if lane.layout == "paged" and spec.precision.dtype != "float32":
        return f"pages hold float32 and the model computes {spec.precision.dtype}"
    memory = make_memory(model, spec, lane, Trials.ROWS, Team(1))
    return trials.try_batch(memory, padded=lane.batching == PADDED)


def _rows(lane: Lane) -> str:
    if lane.batching == PADDED:
        return "padded rows" if lane.mask_axes == 4 else "padded rows of grouped heads"
    return f"{lane.layout} rows"
