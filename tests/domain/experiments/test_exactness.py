"""The token lane's rule (ADR 0004)."""

from attrs import frozen

from semantic.domain.experiments import (
    END_OF_SEQUENCE,
    TIE_BOUND_NATS,
    LaneTally,
    TokenComparison,
    compare_token_ids,
    drawn_tokens,
)


@frozen
class Ranked:
    first: int
    second: int
    gap: float


NEAR, FAR = TIE_BOUND_NATS / 2, TIE_BOUND_NATS * 2


def top2(*pairs: tuple[int, int, float]) -> list[Ranked]:
    return [Ranked(*pair) for pair in pairs]


def test_equal_tokens_agree_over_their_whole_length() -> None:
    comparison = compare_token_ids([5, 6, 7], [5, 6, 7], ())
    assert comparison.agrees
    assert comparison.compared == 3


def test_the_second_candidate_within_the_bound_is_a_tie_and_nothing_after_it_counts() -> None:
    comparison = compare_token_ids([5, 9, 1, 1], [5, 6, 7, 8], top2((5, 6, 3.0), (6, 9, NEAR)))
    assert comparison.is_tie
    assert (comparison.first_divergence, comparison.compared) == (1, 2)
    assert (comparison.actual, comparison.expected, comparison.gap) == (9, 6, NEAR)


def test_the_second_candidate_outside_the_bound_is_a_mismatch() -> None:
    assert not compare_token_ids([5, 9], [5, 6], top2((5, 6, 3.0), (6, 9, FAR))).is_tie


def test_a_gap_of_exactly_the_bound_is_a_mismatch() -> None:
    assert not compare_token_ids([9], [6], top2((6, 9, TIE_BOUND_NATS))).is_tie


def test_a_third_candidate_is_a_mismatch_however_near_the_first_two_are() -> None:
    assert not compare_token_ids([4], [6], top2((6, 9, 0.0))).is_tie


def test_a_divergence_without_the_reference_s_candidates_is_a_mismatch() -> None:
    comparison = compare_token_ids([9], [6], ())
    assert (comparison.is_tie, comparison.gap) == (False, None)


def test_ending_at_another_place_is_a_divergence() -> None:
    assert compare_token_ids([5], [5, 6], ()).first_divergence == 1
    assert compare_token_ids([5, 6], [5], ()).first_divergence == 1


def test_stopping_where_the_reference_nearly_stopped_is_a_tie() -> None:
    ours, theirs = drawn_tokens([5], stopped=True), drawn_tokens([5, 6], stopped=False)
    assert ours == [5, END_OF_SEQUENCE]
    ranked = top2((5, 2, 3.0), (6, 2, NEAR))
    assert compare_token_ids(ours, theirs, ranked, end_ids={2, 3}).is_tie
    assert not compare_token_ids(ours, theirs, ranked, end_ids={3}).is_tie


def test_one_tie_is_allowed_in_each_started_ten_thousand_tokens() -> None:
    tally, tie = LaneTally(), TokenComparison(5_000, 4_999, 9, 6, NEAR, is_tie=True)
    assert tally.add("a", tie)
    assert (tally.ties_allowed, tally.ties_over_cap) == (1, 0)
    tally.add("b", tie)
    assert (tally.ties_allowed, tally.ties_over_cap) == (1, 1)
    tally.add("c", TokenComparison(1))
    assert (tally.ties_allowed, tally.ties_over_cap) == (2, 0)


def test_equal_tokens_with_other_text_are_a_mismatch() -> None:
    tally = LaneTally()
    assert not tally.add("a", TokenComparison(3), texts_agree=False)
    assert (tally.share_equal, len(tally.mismatches)) == (0.0, 1)


def test_a_tally_of_nothing_is_equal_in_nothing() -> None:
    assert LaneTally().share_equal == 0.0
