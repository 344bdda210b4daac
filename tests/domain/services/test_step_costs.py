"""A draft is as long as it pays: more tokens for the time of a step, in the batch as a whole."""

import pytest

from semantic.domain.services.step_costs import Length, StepCosts


def test_a_sure_draft_is_fed_as_a_whole_and_an_unlikely_one_not_at_all() -> None:
    costs = StepCosts()
    assert costs.worthwhile([1.0] * 15, fed=1, expected=1.0) == Length(15, 15.0)
    assert costs.worthwhile([0.1] * 15, fed=1, expected=1.0) == Length()
    assert costs.worthwhile([], fed=1, expected=1.0) == Length()


def test_a_draft_ends_where_its_next_token_costs_more_than_it_promises() -> None:
    length = StepCosts().worthwhile([0.9, 0.9, 0.9, 0.05, 0.05], fed=1, expected=1.0)
    assert length.tokens == 3
    assert length.expected == pytest.approx(0.9 + 0.81 + 0.729)


def test_a_token_that_promises_little_is_fed_for_those_behind_it() -> None:
    assert StepCosts().worthwhile([0.45] + [1.0] * 14, fed=1, expected=1.0).tokens == 15


def test_in_a_full_batch_a_draft_has_to_promise_more_than_alone() -> None:
    costs = StepCosts()
    assert costs.worthwhile([0.3], fed=1, expected=1.0).tokens == 1
    assert costs.worthwhile([0.3], fed=8, expected=8.0).tokens == 0
    assert costs.worthwhile([0.99], fed=8, expected=8.0).tokens == 1


def test_where_wide_steps_are_measured_to_be_nearly_free_more_is_drafted_and_where_they_are_dear_less() -> None:
    free, dear = StepCosts(), StepCosts()
    for costs, wide in ((free, 0.0101), (dear, 0.03)):
        for _ in range(50):
            costs.measured(rows=1, fed=1, seconds=0.01)
            costs.measured(rows=1, fed=8, seconds=wide)
    assert free.cost(8) < 1.1
    assert dear.cost(8) == pytest.approx(2.5, abs=0.1)
    assert free.worthwhile([0.15], fed=1, expected=1.0).tokens == 1
    assert dear.worthwhile([0.4], fed=1, expected=1.0).tokens == 0


def test_one_step_that_was_disturbed_changes_little() -> None:
    costs = StepCosts()
    for _ in range(20):
        costs.measured(rows=1, fed=1, seconds=0.01)
    before = costs.cost(8)
    costs.measured(rows=1, fed=8, seconds=5.0)
    costs.measured(rows=1, fed=1, seconds=5.0)
    assert costs.cost(8) < before * 1.15


def test_without_a_step_to_hold_it_against_nothing_is_learned() -> None:
    costs = StepCosts()
    costs.measured(rows=1, fed=8, seconds=5.0)
    costs.measured(rows=2, fed=2, seconds=0.0)
    costs.measured(rows=2, fed=4, seconds=5.0)
    assert costs.cost(8) == StepCosts().cost(8)


def test_the_cost_rises_with_the_tokens_and_straight_on_beyond_those_that_were_measured() -> None:
    costs = [StepCosts().cost(fed) for fed in (1, 2, 3, 4, 8, 16, 32, 48)]
    assert costs == pytest.approx([1.0, 1.15, 1.25, 1.35, 1.5, 1.9, 2.7, 3.5])
