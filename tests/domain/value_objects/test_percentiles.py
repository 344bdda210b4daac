"""Percentiles by nearest rank."""

from semantic.domain.value_objects.percentiles import Percentiles


def test_a_percentile_is_the_value_that_so_many_stay_within() -> None:
    assert Percentiles.of(range(100, 0, -1)) == Percentiles(count=100, p50=50, p90=90, p99=99)
    assert Percentiles.of([3.0, 1.0, 2.0]) == Percentiles(count=3, p50=2.0, p90=3.0, p99=3.0)


def test_one_value_is_all_percentiles() -> None:
    assert Percentiles.of([0.25]) == Percentiles(count=1, p50=0.25, p90=0.25, p99=0.25)


def test_there_are_none_of_nothing() -> None:
    assert Percentiles.of([]) is None
