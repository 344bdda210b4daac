"""The codec for what a user asks for, if a model's heads allow it."""

from semantic.adapters.quantisation.kv_codec import KVCodec
from semantic.domain.errors import InvalidSpecError
from semantic.domain.value_objects import LayerKind, ModelCacheSpec, RestPrecision

_BITS = {"8": (8, 8), "8/4": (8, 4), "4": (4, 4)}
_GROUPS = (64, 32, 16, 8)


def codec_for(kv_at_rest: str, spec: ModelCacheSpec) -> KVCodec | None:
    """None for ``"exact"``. Values are grouped by as many elements, of 64 at most, as divide all of the model's heads.

    Raises :class:`InvalidSpecError` if the model keeps no rows to quantise, or its heads are of odd widths.
    """
    if kv_at_rest == "exact":
        return None
    layers = [layer for layer in spec.layers if layer.kind is LayerKind.FULL]
    if not layers:
        raise InvalidSpecError(
            f'kv_at_rest={kv_at_rest!r} quantises rows of keys and values, and this model keeps none; use "exact"'
        )
    for group in _GROUPS:
        precision = RestPrecision.of(*_BITS[kv_at_rest], value_group=group)
        if all(layer.value_head_dim % group == 0 for layer in layers):
            break
    for layer in layers:
        precision.check(layer.key_head_dim, layer.value_head_dim)
    return KVCodec(precision)
