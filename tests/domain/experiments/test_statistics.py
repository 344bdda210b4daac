"""Medians with their interval."""

from random import Random

import pytest

from semantic.domain.experiments import estimate_median


def test_the_interval_holds_the_median_and_shrinks_to_it_when_all_are_equal() -> None:
    estimate = estimate_median([1.0, 1.1, 0.9, 1.0, 3.0], Random(1))
    assert estimate.median == 1.0
    assert estimate.low <= 1.0 <= estimate.high
    assert str(estimate_median([2.0, 2.0], Random(1))) == "2.000 [2.000, 2.000]"


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [1.0, 1.4, 0.8, 1.2, 0.7]
    assert estimate_median(values, Random(7)) == estimate_median(values, Random(7))


def test_nothing_has_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate_median([], Random(1))
