"""An agent's record as JSON. Its token ids are kept beside it, packed: they are most of it."""

import json
from typing import Any

import attrs
from cattrs.preconf.json import make_converter

from semantic.domain.value_objects import AgentRecord, pack_tokens, unpack_tokens

_converter = make_converter()


def encode_record(record: AgentRecord) -> tuple[str, bytes]:
    """The record without its token ids as JSON, and those packed."""
    fields: dict[str, Any] = _converter.unstructure(attrs.evolve(record, token_ids=()))
    del fields["token_ids"]
    return json.dumps(fields, separators=(",", ":")), pack_tokens(record.token_ids)


def decode_record(text: str, tokens: bytes) -> AgentRecord:
    """The record that was encoded; fields that this version doesn't know are passed over.

    Raises ``ValueError`` for anything that is no record.
    """
    try:
        record = _converter.structure(json.loads(text), AgentRecord)
        return attrs.evolve(record, token_ids=unpack_tokens(tokens))
    except Exception as exc:  # cattrs groups whatever its hooks raise
        raise ValueError(f"no record of an agent: {exc!r}") from exc
