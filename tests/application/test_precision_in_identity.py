"""What a block's name says of how its keys and values are kept."""

import json

import attrs
import pytest

from semantic.adapters.fakes import FakeModel
from semantic.application.make_cache import cache_context
from semantic.domain.value_objects.rest_precision import CODES


@pytest.mark.parametrize(
    ("kv_at_rest", "named"), [("exact", "exact"), ("8/4", f"8/4, codes {CODES}"), ("4", f"4, codes {CODES}")]
)
def test_blocks_of_other_codes_have_other_names_and_exact_ones_keep_theirs(kv_at_rest: str, named: str) -> None:
    profile = attrs.evolve(FakeModel().profile, kv_at_rest=kv_at_rest)
    assert json.loads(cache_context(profile).kv_precision)["at_rest"] == named
