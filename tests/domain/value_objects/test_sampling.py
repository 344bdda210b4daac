"""What a caller may ask of the sampler."""

from typing import Any

import attrs
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
        {"xtc_probability": 1.1},
        {"xtc_threshold": 0.6},
        {"xtc_special_tokens": ["a"]},
        {"logit_bias": 3},
        {"logit_bias": {"7": 1.0}},
        {"logit_bias": {7: "much"}},
        {"logit_bias": {7: float("nan")}},
        {"logit_bias": {7: float("inf")}},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": float("inf")},
        {"repetition_context_size": -1},
        {"presence_penalty": "some"},
        {"presence_context_size": 2.5},
        {"frequency_penalty": float("nan")},
        {"frequency_context_size": None},
        {"logits_processors": [3]},
        {"logits_processors": 3},
        {"logprobs": -1},
        {"logprobs": True},
    ],
)
def test_what_is_out_of_range_is_refused_by_name(nonsense: dict[str, Any]) -> None:
    (name,) = nonsense
    with pytest.raises(InvalidRequestError, match=name):
        SamplingParams(**nonsense)


def nothing(tokens: Any, logits: Any) -> Any:
    return logits


def test_parameters_with_biases_and_processors_are_hashable_and_may_be_evolved() -> None:
    params = SamplingParams(logit_bias={7: 1.5, 3: float("-inf")}, logits_processors=[nothing])
    assert params.logit_bias == ((7, 1.5), (3, float("-inf")))
    assert len({params, attrs.evolve(params), attrs.evolve(params, max_tokens=3)}) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"logit_bias": {7: 1.0}},
        {"repetition_penalty": 1.1},
        {"presence_penalty": -0.5},
        {"frequency_penalty": 0.5},
        {"logits_processors": nothing},
    ],
    ids=lambda given: ", ".join(given),
)
def test_a_bias_a_penalty_or_a_processor_changes_logits(given: dict[str, Any]) -> None:
    assert SamplingParams(**given).changes_logits


def test_penalties_of_none_or_0_and_logprobs_change_nothing() -> None:
    assert not SamplingParams(repetition_penalty=0.0, presence_penalty=0, logit_bias={}, logprobs=3).changes_logits
