"""What people write about results, beside what the runner measured."""

from datetime import UTC, datetime

import pytest

from semantic.adapters.fakes.experiments import example_experiment
from semantic.domain.experiments import Finding, Observation, Review, RootCause, SignOff

NOON = datetime(2026, 11, 26, 12, 0, 5, tzinfo=UTC)


def test_a_review_goes_before_the_declaration_and_adds_to_its_observations() -> None:
    cause = RootCause(problem="p", investigation=("looked",), root_cause="r", fix="f")
    declared = example_experiment(summary="before", observations=(Observation(Finding.ISSUE, "one"),))
    review = Review(
        summary="after",
        observations=(Observation(Finding.POSITIVE, "two"),),
        root_cause=cause,
        sign_off=SignOff(reviewer="R. Viewer", approval_date="2026-11-26"),
    )
    reviewed = review.of(declared)
    assert (reviewed.summary, reviewed.root_cause, reviewed.sign_off.reviewer) == ("after", cause, "R. Viewer")
    assert [seen.text for seen in reviewed.observations] == ["one", "two"]


def test_an_approval_has_a_date_that_can_be_held_against_the_execution_s() -> None:
    with pytest.raises(ValueError, match="approval_date is written as 2026-11-26, got 'soon'"):
        SignOff(reviewer="R. Viewer", approval_date="soon")


def test_an_empty_review_changes_nothing() -> None:
    declared = example_experiment(summary="before", sign_off=SignOff(reviewer="A", approval_date="2026-01-01"))
    assert Review().of(declared) == declared


@pytest.mark.parametrize(
    ("date", "execution", "covers"),
    [
        ("2026-11-26", "", True),
        ("2026-11-25", "", False),
        ("2026-11-27", "2026-11-26 12:00", True),
        ("2026-11-27", "2026-11-26T12:00:05", True),
        ("2026-11-27", "2026-11-20 12:00", False),
        ("", "", False),
    ],
)
def test_an_approval_covers_the_execution_it_was_given_for_and_no_later_one(
    date: str, execution: str, covers: bool
) -> None:
    assert SignOff(reviewer="R", approval_date=date, execution=execution).covers(NOON) is covers
