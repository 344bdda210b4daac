"""Whose turn it is, by what was computed for whom."""

from semantic.domain.services.fair_share import FairShare


def test_a_client_that_was_served_more_comes_later() -> None:
    shares = FairShare()
    shares.enter("a")
    shares.enter("b")
    shares.charge("a", 10)
    assert (shares.served("a"), shares.served("b")) == (10, 0)


def test_one_that_comes_later_starts_level_with_the_least_served() -> None:
    shares = FairShare()
    shares.enter("a")
    shares.enter("b")
    shares.charge("a", 10)
    shares.charge("b", 7)
    shares.enter("c")
    assert shares.served("c") == 7


def test_one_that_was_away_has_saved_nothing_up() -> None:
    shares = FairShare()
    shares.enter("a")
    shares.enter("b")
    shares.leave("b")
    shares.charge("a", 100)
    shares.enter("b")
    assert shares.served("b") == 100


def test_one_that_leaves_for_a_moment_keeps_no_better_place_than_it_had() -> None:
    shares = FairShare()
    shares.enter("a")
    shares.charge("a", 100)
    shares.leave("a")
    shares.enter("a")
    assert shares.served("a") == 100


def test_a_client_counts_once_however_many_requests_it_has() -> None:
    shares = FairShare()
    shares.enter("a")
    shares.enter("a")
    shares.charge("a", 5)
    shares.leave("a")
    assert shares.served("a") == 5
