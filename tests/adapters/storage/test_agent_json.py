"""An agent's record as JSON: all of it comes back, and records of before a field was there can be read."""

import json

import attrs
import pytest
from stored_blocks import record

from semantic.adapters.storage.agent_json import decode_record, encode_record
from semantic.domain.value_objects import ChatOptions


def test_a_record_comes_back_as_it_was() -> None:
    assert decode_record(*encode_record(record())) == record()


def test_a_record_from_before_agents_had_tools_is_one_without() -> None:
    text, tokens = encode_record(record())
    fields = json.loads(text)
    del fields["chat"]
    assert decode_record(json.dumps(fields), tokens) == attrs.evolve(record(), chat=ChatOptions())


def test_fields_of_a_later_version_are_passed_over() -> None:
    text, tokens = encode_record(record())
    assert decode_record(json.dumps(json.loads(text) | {"mood": "terse"}), tokens) == record()


def test_what_is_no_record_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no record of an agent"):
        decode_record('{"name": "alice"}', b"")
