"""Threads that do one piece of work together, and numpy's own threads meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from semantic.adapters.mlx.numpy_blas import NumpyBlas
from semantic.adapters.mlx.team import Team


@pytest.fixture
def team() -> Iterator[Team]:
    made = Team(2)
    yield made
    made.close()


def test_work_is_called_once_on_every_thread_and_all_have_ended_when_run_returns(team: Team) -> None:
    done: list[int] = []
    tasks = iter(range(50))
    team.run(lambda: done.extend(tasks))
    assert sorted(done) == list(range(50))


def test_what_a_thread_raises_reaches_the_caller_and_the_team_goes_on(team: Team) -> None:
    tasks = iter(range(8))

    def work() -> None:
        for task in tasks:
            if task == 3:
                raise ZeroDivisionError("task 3")

    with pytest.raises(ZeroDivisionError, match="task 3"):
        team.run(work)
    done: list[int] = []
    more = iter(range(5))
    team.run(lambda: done.extend(more))
    assert sorted(done) == [0, 1, 2, 3, 4]


def test_two_callers_do_not_take_each_others_results(team: Team) -> None:
    """As two engines on one model do: the projections are served by the first one's team."""

    def calls() -> list[int]:
        counts = []
        for _ in range(200):
            done: list[int] = []
            team.run(lambda done=done: done.append(sum(range(200))))  # type: ignore[misc]
            counts.append(len(done))
        return counts

    with ThreadPoolExecutor(2) as threads:
        for counts in (threads.submit(calls), threads.submit(calls)):
            assert set(counts.result()) == {2}


def test_a_closed_team_is_the_calling_thread_alone(team: Team) -> None:
    team.close()
    team.close()
    done: list[int] = []
    team.run(lambda: done.append(1))
    assert (done, team.size) == ([1], 1)


def test_numpys_threads_come_back_whichever_of_two_engines_leaves_last() -> None:
    first, second = NumpyBlas(), NumpyBlas()
    pools = first._pools
    if not pools:
        pytest.skip("this numpy brings no OpenBLAS")
    before = [pool.get_num_threads() for pool in pools]
    for pool in pools:
        pool.set_num_threads(2)
    a, b = first.single_threaded(), second.single_threaded()
    with a:
        b.__enter__()
        assert [pool.get_num_threads() for pool in pools] == [1] * len(pools)
    assert [pool.get_num_threads() for pool in pools] == [1] * len(pools)
    b.__exit__(None, None, None)
    assert [pool.get_num_threads() for pool in pools] == [2] * len(pools)
    for pool, threads in zip(pools, before, strict=True):
        pool.set_num_threads(threads)
