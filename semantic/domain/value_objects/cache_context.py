"""What keys and values depend on besides the tokens, and how a block's contents get their name."""

import hashlib
import json

import attrs
from attrs import frozen

from semantic.domain.errors import InvalidRequestError
from semantic.domain.identifiers import BlockHash

DEFAULT_NAMESPACE = "default"
_MOST_NAMESPACE_BYTES = 256


@frozen(kw_only=True)
class CacheContext:
    """Two blocks of equal tokens are interchangeable only if all of this is equal too.

    ``model``: fingerprint of weights, configuration and tokenizer, chat template included. ``layers``: what each
    layer keeps. ``kv_precision``, ``compute_dtype``: how. ``cache_layout``, ``numerics``: with which operations, in
    which versions. ``lane``: which exactness was promised. ``adapters``: fingerprints of LoRA adapters, in order.
    """

    model: str
    layers: str
    block_tokens: int
    kv_precision: str
    compute_dtype: str
    cache_layout: str
    numerics: str
    lane: str
    adapters: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """64 hex digits that name this context in the store."""
        fields = json.dumps(attrs.asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(b"semantic context 1\0" + fields.encode()).hexdigest()

    def root(self, namespace: str = DEFAULT_NAMESPACE) -> BlockHash:
        """The parent of every first block in ``namespace``: no chain of one namespace meets another's."""
        return BlockHash(hashlib.sha256(b"semantic root 1\0" + f"{self.digest}\0{namespace}".encode()).digest())


def block_hash(parent: BlockHash, packed_tokens: bytes) -> BlockHash:
    """The name of a block of these tokens behind ``parent``; a partial block's is made in the same way."""
    return BlockHash(hashlib.sha256(parent + packed_tokens).digest())


def check_namespace(namespace: str) -> str:
    """Return it, or raise :class:`InvalidRequestError` for one that can't be a name."""
    try:
        is_name = isinstance(namespace, str) and 0 < len(namespace.encode()) <= _MOST_NAMESPACE_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        is_name = False
    if not is_name:
        raise InvalidRequestError(
            f"a namespace is a non-empty string of at most {_MOST_NAMESPACE_BYTES} bytes in UTF-8, got {namespace!r}"
        )
    return namespace
