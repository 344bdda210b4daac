"""Reporting: on the board while there is work, in the log at intervals, and never at the engine's cost."""

import gc
import os
import threading
import time
from collections.abc import Callable

from gating import SOON, Gate
from snapshots import snapshot

from semantic.adapters.fakes import FakeClock, FakeModel, MemoryBoard, RecordingTelemetry, fake_engine
from semantic.application.ports.live_board import EngineSnapshot
from semantic.application.stats_reporter import StatsReporter

FAST = 0.001


def wait_until(condition: Callable[[], bool]) -> None:
    gave_up_at = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < gave_up_at, "it never came to that"
        time.sleep(FAST)


def reporter(
    board: MemoryBoard | None,
    telemetry: RecordingTelemetry | None = None,
    clock: FakeClock | None = None,
    log_every_s: float = 0.0,
) -> StatsReporter:
    telemetry, clock = telemetry or RecordingTelemetry(), clock or FakeClock()
    return StatsReporter(board, telemetry, clock, every_s=FAST, log_every_s=log_every_s)


def by_hand(made: StatsReporter, *snapshots: EngineSnapshot) -> StatsReporter:
    """One that a test makes report, with what it shall find."""
    coming = iter(snapshots)
    made._take = lambda: next(coming)
    return made


def test_a_busy_engine_and_one_that_was_a_moment_ago_are_reported_on_again_unasked() -> None:
    made = by_hand(
        reporter(MemoryBoard()),
        snapshot(),
        snapshot(running=0, waiting=0),
        snapshot(running=0, waiting=0, tokens_per_s=0.0),
    )
    assert [made.report() for _ in range(3)] == [True, True, False]


def test_the_log_gets_a_line_at_intervals_while_there_is_work() -> None:
    clock, telemetry = FakeClock(), RecordingTelemetry()
    idle = snapshot(running=0, waiting=0, tokens_per_s=0.0)
    made = by_hand(reporter(None, telemetry, clock, log_every_s=10.0), *[snapshot()] * 4, idle)
    for seconds in (9.0, 1.0, 9.0, 1.0, 100.0):
        clock.advance(seconds)
        made.report()
    lines = telemetry.named("engine.stats")
    assert [line.level for line in lines] == ["info", "info"]
    assert lines[0].facts == {
        "engine": "1-1",
        "running": 3,
        "waiting": 5,
        "preempted": 1,
        "finished_requests": 1200,
        "tokens_per_s": 71.2,
        "ttft_p50_s": 0.31,
        "ttft_p99_s": 1.2,
        "token_gap_p50_s": 0.068,
        "token_gap_p99_s": 0.14,
        "hits_memory": 0.6,
        "hits_store": 0.1,
        "live_bytes": 40_000_000,
        "resident_bytes": 50_000_000,
        "free_bytes": 10_000_000,
        "store_bytes": 1_200_000_000,
        "pending_bytes": 2_100_000,
        "evicted_blocks": 12,
    }


def test_without_an_interval_the_log_gets_no_line() -> None:
    clock, telemetry = FakeClock(), RecordingTelemetry()
    made = by_hand(reporter(MemoryBoard(), telemetry, clock), *[snapshot()] * 3)
    for _ in range(3):
        clock.advance(1000.0)
        made.report()
    assert telemetry.events == []


def test_a_board_that_fails_is_told_once_and_harms_nothing() -> None:
    board, telemetry = MemoryBoard(), RecordingTelemetry()
    board.fails = True
    with fake_engine(telemetry=telemetry, reporter=reporter(board, telemetry)) as engine:
        for _ in range(3):
            assert engine.generate("a", max_tokens=2).finish_reason == "length"
        wait_until(lambda: bool(telemetry.named("stats.not.published")))
    assert [event.facts for event in telemetry.named("stats.not.published")] == [
        {"error": "OSError: the fake board was told to fail"}
    ]


def test_a_reporter_with_a_defect_says_that_it_ends_and_the_engine_goes_on() -> None:
    board, telemetry = MemoryBoard(), RecordingTelemetry()

    def publish(one: EngineSnapshot) -> None:
        raise ZeroDivisionError("a defect")

    board.publish = publish  # type: ignore[method-assign]
    with fake_engine(telemetry=telemetry, reporter=reporter(board, telemetry)) as engine:
        wait_until(lambda: bool(telemetry.named("stats.reporter.failed")))
        assert engine.generate("a", max_tokens=2).finish_reason == "length"
    assert [event.facts["error"] for event in telemetry.named("stats.reporter.failed")] == [
        "ZeroDivisionError: a defect"
    ]


def test_an_open_engine_is_on_the_board_and_a_closed_one_is_not() -> None:
    board = MemoryBoard()
    with fake_engine(reporter=reporter(board)) as engine:
        wait_until(lambda: len(board.snapshots()) == 1)
        engine.generate("a", max_tokens=3)
        wait_until(lambda: board.snapshots()[0].stats.finished_requests == 1)
        [seen] = board.snapshots()
        assert (seen.pid, seen.model) == (os.getpid(), "fake")
        assert seen.engine.startswith(f"{os.getpid()}-")
        assert seen.opened_at == "2026-01-01T00:00:00+00:00"
    assert list(board.snapshots()) == []


def test_two_engines_of_a_process_have_names_of_their_own() -> None:
    board = MemoryBoard()
    with fake_engine(reporter=reporter(board)), fake_engine(reporter=reporter(board)):
        wait_until(lambda: len(board.snapshots()) == 2)


def test_an_idle_engine_is_not_published_again_and_again() -> None:
    board, clock = MemoryBoard(), FakeClock()
    with fake_engine(clock=clock, reporter=reporter(board, clock=clock)) as engine:
        engine.generate("a", max_tokens=3)
        clock.advance(60.0)
        engine.flush()
        wait_until(lambda: any(one.stats.finished_requests and not one.stats.tokens_per_s for one in board.snapshots()))
        published = board.published
        time.sleep(100 * FAST)
        assert board.published <= published + 2  # what the flush has stirred


def test_a_working_engine_is_published_while_a_step_lasts(gate: Gate) -> None:
    board = MemoryBoard()
    with fake_engine(model=FakeModel(choose=gate), reporter=reporter(board)) as engine:
        request = engine.submit("a", max_tokens=1)
        gate.await_reached()
        published = board.published
        wait_until(lambda: board.published > published + 2)
        gate.open()
        request.result(SOON)


def test_a_board_that_hangs_holds_up_no_step() -> None:
    board, hanging = MemoryBoard(), threading.Event()
    publish = board.publish

    def hang(one: EngineSnapshot) -> None:
        assert hanging.wait(SOON)
        publish(one)

    board.publish = hang  # type: ignore[method-assign]
    with fake_engine(reporter=reporter(board)) as engine:
        assert engine.generate("a", max_tokens=50).finish_reason == "length"
        hanging.set()


def test_an_engine_that_goes_down_leaves_the_board() -> None:
    board, model = MemoryBoard(), FakeModel()

    def close(cache: object) -> None:
        raise OSError("the memory is on fire")

    model.memory.close = close
    engine = fake_engine(model=model, reporter=reporter(board))
    wait_until(lambda: len(board.snapshots()) == 1)
    request = engine.submit("a", max_tokens=1)
    wait_until(lambda: request.is_done and not board.snapshots())


def test_reporting_does_not_keep_an_engine_open_that_nobody_holds() -> None:
    board, model = MemoryBoard(), FakeModel()
    engine = fake_engine(model=model, reporter=reporter(board))
    engine.generate("a", max_tokens=1)
    del engine
    wait_until(lambda: gc.collect() >= 0 and model.is_released and not board.snapshots())


def test_with_nothing_to_report_to_there_is_no_thread() -> None:
    with fake_engine(reporter=reporter(None)):
        assert "semantic-stats" not in {thread.name for thread in threading.enumerate()}
