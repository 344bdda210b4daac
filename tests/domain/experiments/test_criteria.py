"""Measurements against thresholds."""

import pytest

from semantic.domain.experiments import Measurement, Threshold, at_least, at_most, exactly, judge, must


@pytest.mark.parametrize(
    ("threshold", "measured", "passes"),
    [
        (at_most(1.2), 1.2, True),
        (at_most(1.2), 1.21, False),
        (at_least(2), 2, True),
        (at_least(2), 1, False),
        (exactly(0), 0, True),
        (exactly(0), 1, False),
        (at_most(1.2), float("nan"), False),
        (at_least(1.2), float("nan"), False),
    ],
)
def test_a_threshold_holds_up_to_and_including_its_value_and_never_for_nan(
    threshold: Threshold, measured: float, passes: bool
) -> None:
    assert threshold.is_met_by(measured) is passes


def test_a_criterion_that_was_not_measured_has_not_passed() -> None:
    result = judge(must("C1", "Differences", exactly(0, "tokens")), None)
    assert not result.passed
    assert result.outcome == "C1 (Differences): not measured, required == 0 tokens"


def test_a_result_carries_the_measured_value_and_its_evidence() -> None:
    result = judge(must("C1", "Ratio", at_most(1.2)), Measurement("C1", 0.8125, "10 pairs"))
    assert result.passed
    assert (result.measured, result.evidence, result.threshold) == (0.8125, "10 pairs", "<= 1.2")
    assert result.outcome == "C1 (Ratio): 0.8125, required <= 1.2"


@pytest.mark.parametrize(
    ("low", "high", "is_close"), [(1.0, 1.3, True), (1.0, 1.2, False), (1.21, 1.4, False), (None, None, False)]
)
def test_an_interval_that_reaches_over_the_limit_does_not_settle_it(
    low: float | None, high: float | None, is_close: bool
) -> None:
    result = judge(must("C1", "Ratio", at_most(1.2)), Measurement("C1", 1.1, "", low, high))
    assert result.is_close is is_close
    assert (result.comparison, result.limit, result.low, result.high) == ("<=", 1.2, low, high)
