"""What followed the last time is found, whatever else lies between, and finding it costs no more in long contexts."""

from itertools import pairwise

from counted_calls import calls_made
from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.services.prompt_lookup import LONGEST_MATCH, Occurrence, PromptLookup


def lookup(*token_ids: int) -> PromptLookup:
    made = PromptLookup()
    made.extend(token_ids)
    return made


def test_where_the_end_occurred_before_is_found_with_how_much_of_it() -> None:
    assert lookup(1, 2, 3, 4, 9, 2, 3).find() == Occurrence(start=3, matched=2)
    assert lookup(1, 2, 3, 4, 9, 1, 2, 3).find() == Occurrence(start=3, matched=3)


def test_a_single_token_that_occurred_before_is_no_occurrence() -> None:
    assert lookup(1, 2, 3, 2).find() is None


def test_nothing_is_found_in_what_is_too_short() -> None:
    assert [lookup(*range(length)).find() for length in range(4)] == [None] * 4


def test_of_two_occurrences_the_longer_match_is_taken_and_of_equal_ones_the_later() -> None:
    assert lookup(7, 1, 2, 30, 8, 1, 2, 40, 7, 1, 2).find() == Occurrence(start=3, matched=3)
    assert lookup(5, 1, 2, 30, 6, 1, 2, 40, 7, 1, 2).find() == Occurrence(start=7, matched=2)


def test_matches_are_told_apart_up_to_sixteen_tokens() -> None:
    run = list(range(40))
    assert lookup(*run, 99, *run[:30]).find() == Occurrence(start=30, matched=LONGEST_MATCH)


def test_what_comes_after_is_read_from_there_and_repeats_where_the_context_ends() -> None:
    made = lookup(1, 2, 3, 4, 1, 2)
    assert made.after(2, 3) == [3, 4, 1]
    assert made.after(2, 10) == [3, 4, 1, 2, 3, 4, 1, 2, 3, 4]


def test_tokens_may_come_one_by_one_or_all_at_once() -> None:
    token_ids = [1, 2, 3, 1, 2, 4, 1, 2, 3, 1, 2]
    one_by_one = PromptLookup()
    for token_id in token_ids:
        one_by_one.extend([token_id])
    assert one_by_one.find() == lookup(*token_ids).find() == Occurrence(start=5, matched=5)
    assert len(one_by_one) == 11


@given(st.lists(st.integers(0, 3), max_size=40))
def test_what_is_found_is_there(token_ids: list[int]) -> None:
    made = lookup(*token_ids)
    found = made.find()
    pairs = list(pairwise(token_ids))
    assert (found is not None) == (len(pairs) > 0 and pairs[-1] in pairs[:-1])
    if found is not None:
        before = token_ids[: found.start]
        assert before[-found.matched :] == token_ids[-found.matched :]
        assert found.start < len(token_ids)
        assert made.after(found.start, 1) == [token_ids[found.start]]


def test_a_token_more_costs_no_more_calls_in_a_context_of_a_hundred_thousand() -> None:
    def of_a_token_more(num_tokens: int) -> int:
        made = lookup(*(number * number % 1009 for number in range(num_tokens)))

        def go_on() -> None:
            for token_id in range(100):
                made.extend([token_id])
                made.find()

        return calls_made(go_on)

    assert of_a_token_more(100_000) <= 2 * of_a_token_more(1_000)
