"""What a caller may ask of the sampler."""

from typing import Any

import pytest

from semantic.domain.errors import InvalidRequestError
from semantic.domain.value_objects import SamplingParams


def test_the_default_is_greedy() -> None:
    assert SamplingParams().is_greedy
    assert not SamplingParams(temp=0.7).is_greedy


def test_one_stop_string_may_be_given_bare() -> None:
    assert SamplingParams(stop="END").stop == ("END",)
    assert SamplingParams(stop=["END", "###"]).stop == ("END", "###")
    assert SamplingParams(stop=None, stop_token_ids=[2, 2, 3]).stop_token_ids == {2, 3}


@pytest.mark.parametrize(
    "nonsense",
    [
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"temp": -0.1},
        {"temp": float("nan")},
        {"temp": float("inf")},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"top_k": -1},
        {"seed": -1},
        {"seed": 2**64},
        {"stop": ["END", ""]},
    ],
)
def test_what_is_out_of_range_is_refused_by_name(nonsense: dict[str, Any]) -> None:
    (name,) = nonsense
    with pytest.raises(InvalidRequestError, match=name):
        SamplingParams(**nonsense)
