"""A drafter guesses what came next before, and knows how far to trust that."""

import pytest

from semantic.domain.services.drafter import Draft, PromptLookupDrafter

PAGE = list(range(100, 160))


def test_a_draft_is_what_followed_the_context_the_last_time() -> None:
    drafter = PromptLookupDrafter([*PAGE, 1, 100, 101, 102])
    assert drafter.draft(3).tokens == [103, 104, 105]


@pytest.mark.parametrize("most", [0, -1])
def test_where_there_is_no_room_or_nothing_to_go_by_nothing_is_drafted(most: int) -> None:
    assert PromptLookupDrafter([*PAGE, 1, 100, 101, 102]).draft(most) == Draft()
    assert PromptLookupDrafter(PAGE).draft(5) == Draft()


def test_what_was_drawn_is_part_of_the_context_from_then_on() -> None:
    drafter = PromptLookupDrafter([1, 2, 3, 4])
    drafter.observe([9, 2, 3])
    assert drafter.draft(2).tokens == [4, 9]


def test_a_sequence_that_copies_comes_to_trust_its_drafts_though_none_was_ever_verified() -> None:
    drafter = PromptLookupDrafter([*PAGE, 1, 100, 101])
    chances = [drafter.draft(1).chances[0]]
    for token_id in PAGE[2:50]:
        drafter.observe([token_id])
        chances.append(drafter.draft(1).chances[0])
    assert chances[0] == pytest.approx(0.1)
    assert chances[-1] > 0.9


def test_a_sequence_that_never_copies_comes_to_distrust_its_drafts_and_learns_when_it_begins_to() -> None:
    drafter = PromptLookupDrafter([1, 2, 3])
    for number in range(30):  # the pair (1, 2) comes again and again, and goes on differently each time
        drafter.observe([1000 + number, 1, 2])
    assert drafter.draft(1).chances[0] < 0.05
    for _ in range(40):
        drafter.observe([1029, 1, 2])
    assert drafter.draft(1).chances[0] > 0.8


def test_longer_matches_have_a_trust_of_their_own_and_begin_with_that_of_shorter_ones() -> None:
    drafter = PromptLookupDrafter([*PAGE, *PAGE[:10]])
    for token_id in PAGE[10:40]:  # matches of 10 tokens and more
        drafter.observe([token_id])
    drafter.observe([1, 100, 101])
    short = drafter.draft(12).chances
    assert short[:6] == pytest.approx([0.1] * 6)
    assert short[6] > 0.6, "of matches of 8 tokens it knows better"
    assert short[6] < drafter.draft(20).chances[-1], "and of those of 16"


def test_only_the_first_token_that_differs_counts_against_a_draft() -> None:
    drafter = PromptLookupDrafter([*PAGE, 1, 100, 101])
    drafter.observe([102, 103, 999, 998, 997])  # two are right; the third is held against a match of 4
    drafter.observe([100, 101])
    assert drafter.draft(1).chances[0] == pytest.approx((0.95 + 1 + 0.4) / (0.95 + 1 + 4))
