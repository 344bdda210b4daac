"""What a step needs besides keys and values."""

import pytest

from semantic.domain.errors import InvalidSpecError
from semantic.domain.value_objects import Workspace


def test_over_tiles_a_long_context_needs_no_more_than_a_short_one() -> None:
    workspace = Workspace(fixed_bytes=1000)
    assert not workspace.depends_on_context
    assert workspace.bytes_for_context(100_000) == 0


def test_scores_of_a_whole_chunk_grow_with_the_context_and_as_far_as_the_chunk_with_both_sides() -> None:
    workspace = Workspace(chunk_tokens=256, bytes_per_score=72, bytes_per_context_token=1_000)
    assert workspace.depends_on_context
    assert workspace.bytes_for_context(100) == 72 * 100 * 100 + 100_000
    assert workspace.bytes_for_context(4_096) == 72 * 256 * 4_096 + 4_096_000


def test_no_part_is_negative() -> None:
    with pytest.raises(InvalidSpecError, match="fixed_bytes"):
        Workspace(fixed_bytes=-1)
