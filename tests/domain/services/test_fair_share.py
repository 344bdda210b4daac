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


def test_one_that_leaves_while_others_are_there_does_not_start_anew_either() -> None:
    shares = FairShare()
    shares.enter("a")
    shares.enter("b")
    shares.charge("a", 100)
    shares.charge("b", 10)
    shares.leave("a")
    shares.enter("a")
    assert (shares.served("a"), shares.served("b")) == (100, 10)


def test_ten_thousand_that_have_left_are_remembered() -> None:
    shares = FairShare()
    shares.enter("there all the time")
    for client in range(10_001):
        shares.enter(client)
        shares.charge(client, 5)
        shares.leave(client)
    shares.enter(0)
    shares.enter(1)
    assert (shares.served(0), shares.served(1)) == (0, 5)


def test_one_of_which_nothing_ran_for_long_goes_first() -> None:
    shares = FairShare(patience_s=30.0)
    for client in ("greedy", "modest"):
        shares.enter(client, 0.0)
    shares.charge("greedy", 100)
    shares.note_turn("modest", 25.0)
    assert (shares.place("greedy", 29.0), shares.place("modest", 29.0)) == (100, 0)
    assert (shares.place("greedy", 30.0), shares.place("modest", 30.0)) == (-1, 0)
    shares.note_turn("greedy", 31.0)
    assert shares.place("greedy", 31.0) == 100
