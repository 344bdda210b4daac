"""What the engine's thread measures, on a clock that a test moves."""

from collections.abc import Sequence

from gating import SOON

from semantic.adapters.fakes import FakeClock, FakeModel, MemoryStore, fake_engine, fake_next_token, fake_tier
from semantic.application.engine_stats import HitRates, TierBytes
from semantic.application.latencies import Latencies, Progress
from semantic.application.sliding_window import SlidingWindow
from semantic.application.token_rate import TokenRate
from semantic.domain.value_objects.percentiles import Percentiles


def test_a_window_keeps_the_last_values() -> None:
    window = SlidingWindow(3)
    assert list(window.values()) == []
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        window.record(value)
    assert sorted(window.values()) == [3.0, 4.0, 5.0]


def test_what_was_read_does_not_change_with_what_is_recorded() -> None:
    window = SlidingWindow(2)
    window.record(1.0)
    read = window.values()
    window.record(2.0)
    assert list(read) == [1.0]


def test_a_rate_is_over_five_seconds_or_since_tokens_began_to_come() -> None:
    rate = TokenRate()
    assert rate.per_second(100.0) == 0.0
    rate.record(100.0, 20)
    assert rate.per_second(100.1) == 20.0
    rate.record(101.0, 20)
    assert rate.per_second(102.0) == 20.0
    for second in range(102, 110):
        rate.record(float(second), 50)
    assert rate.per_second(109.0) == 5 * 50 / 4
    assert rate.per_second(112.0) == 2 * 50 / 4
    assert rate.per_second(114.0) == 0.0


def test_the_first_token_counts_from_submission_and_each_gap_from_the_token_before() -> None:
    latencies, progress = Latencies(), Progress(submitted_at=10.0)
    for now in (10.5, 10.75, 11.75):
        latencies.record(progress, 1, now)
    assert list(latencies.ttft_s.values()) == [0.5]
    assert list(latencies.token_gap_s.values()) == [0.25, 1.0]


def test_an_engine_tells_percentiles_of_what_its_callers_have_waited_for() -> None:
    clock = FakeClock()

    def slow(token_ids: Sequence[int]) -> int:
        clock.advance({1: 0.5, 2: 0.125, 3: 0.25, 4: 0.375}[len(token_ids)])
        return fake_next_token(token_ids)

    with fake_engine(model=FakeModel(choose=slow), clock=clock) as engine:
        assert engine.stats().ttft_s is None
        done = engine.generate("a", max_tokens=4)
        stats = engine.stats()
    assert stats.ttft_s == Percentiles(count=1, p50=0.5, p90=0.5, p99=0.5)
    assert stats.token_gap_s == Percentiles(count=3, p50=0.25, p90=0.375, p99=0.375)
    assert stats.tokens_per_s == 4 / 1.25
    assert done.timings.ttft_s == 0.5


def test_a_wait_in_the_queue_counts_towards_the_first_token() -> None:
    clock = FakeClock()

    def slow(token_ids: Sequence[int]) -> int:
        clock.advance(1.0)
        return fake_next_token(token_ids)

    with fake_engine(model=FakeModel(choose=slow), clock=clock, max_num_seqs=1) as engine:
        engine.batch_generate(["a", "b"], max_tokens=2)
        assert engine.stats().ttft_s == Percentiles(count=2, p50=1.0, p90=3.0, p99=3.0)


def test_an_end_without_a_token_is_no_gap() -> None:
    clock = FakeClock()

    def stops(token_ids: Sequence[int]) -> int:
        clock.advance(1.0)
        return 0 if len(token_ids) == 2 else fake_next_token(token_ids)

    with fake_engine(model=FakeModel(choose=stops), clock=clock) as engine:
        assert engine.generate("a", max_tokens=9).finish_reason == "stop"
        assert engine.stats().token_gap_s is None


def test_bytes_are_told_by_tier_and_prompts_by_where_they_came_from() -> None:
    with fake_engine(blocks=8, tier=fake_tier(MemoryStore())) as engine:
        assert engine.stats().hit_rates is None
        assert not engine.stats().is_busy
        engine.generate(list(range(1, 33)), max_tokens=1)
        engine.generate(list(range(1, 33)), max_tokens=1)
        engine.drain(SOON)
        stats = engine.stats()
        assert stats.hit_rates == HitRates(memory=31 / 64, store=0.0, computed=33 / 64)
        assert stats.tier_bytes == TierBytes(
            live=0,
            resident=2 * stats.block_bytes,
            store=stats.store.store.bytes if stats.store else -1,
            pending_writes=0,
        )
        assert stats.tier_bytes.store > 0
        assert stats.pool_bytes_free == 6 * stats.block_bytes
