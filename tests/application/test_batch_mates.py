"""What a request gets does not depend on who runs beside it, on fakes."""

from attrs import define
from driving import Driven, driven
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.adapters.fakes import (
    FakeClock,
    FakeTokenizer,
    RecordingTelemetry,
    fake_batch_engine,
)
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.domain.identifiers import RequestId
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import FinishReason, SamplingParams


@define
class Arrival:
    """A request that arrives in some step, and may be cancelled some steps later."""

    prompt: list[int]
    sampling: SamplingParams
    at: int
    cancelled_after: int | None


_requests = st.builds(
    Arrival,
    prompt=st.lists(st.integers(0, 256), min_size=1, max_size=50),
    sampling=st.builds(
        SamplingParams,
        max_tokens=st.integers(1, 12),
        temp=st.sampled_from([0.0, 0.8]),
        seed=st.integers(0, 3),
        stop=st.sampled_from([(), ("a",), ("ab", "q")]),
    ),
    at=st.integers(0, 12),
    cancelled_after=st.none() | st.integers(0, 8),
)


@given(
    arrivals=st.lists(_requests, min_size=1, max_size=8),
    max_num_seqs=st.integers(1, 4),
    blocks=st.integers(4, 9),
    prefix_caching=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_a_request_gets_does_not_depend_on_its_batch_mates(
    arrivals: list[Arrival], max_num_seqs: int, blocks: int, prefix_caching: bool
) -> None:
    some = driven(max_num_seqs=max_num_seqs, blocks=blocks, prefix_caching=prefix_caching)
    request_ids: dict[RequestId, Arrival] = {}
    for now in range(10_000):
        for arrival in arrivals:
            if arrival.at == now:
                request_ids[some.engine.submit(arrival.prompt, arrival.sampling)] = arrival
        for request_id, arrival in request_ids.items():
            if arrival.cancelled_after == now - arrival.at and request_id not in some.ends:
                some.cancel(request_id)
        some.step()
        some.engine.pool.check_integrity()
        if now > 12 and not some.engine.has_work:
            break
    stats = some.engine.stats()
    assert (stats.pool_free_blocks, stats.pool_blocks_in_use) == (blocks, 0)
    assert stats.cache_bytes == stats.pool_cached_blocks * some.engine.model.profile.cache_spec.bytes_per_block
    if not prefix_caching:
        assert stats.cache_bytes == 0
    for request_id, arrival in request_ids.items():
        completion, alone = some.completion(request_id), driven()
        solo_id = alone.engine.submit(arrival.prompt, arrival.sampling)
        alone.run()
        solo = alone.completion(solo_id)
        if completion.finish_reason is FinishReason.CANCELLED:
            assert completion.token_ids == solo.token_ids[: len(completion.token_ids)]
        else:
            assert (completion.token_ids, completion.text, completion.finish_reason) == (
                solo.token_ids,
                solo.text,
                solo.finish_reason,
            )


def test_without_a_seed_each_request_draws_its_own() -> None:
    seeds = iter([1, 2])
    base = fake_batch_engine()
    engine = BlockPoolBatchEngine(
        model=base.model,
        tokenizer=FakeTokenizer(),
        pool=BlockPool(64),
        clock=FakeClock(),
        telemetry=RecordingTelemetry(),
        random_seed=lambda: next(seeds),
    )
    some = Driven(engine)
    first, second = some.generate("a", temp=1.0, max_tokens=8), some.generate("a", temp=1.0, max_tokens=8)
    assert first.token_ids == driven().generate("a", temp=1.0, max_tokens=8, seed=1).token_ids
    assert second.token_ids == driven().generate("a", temp=1.0, max_tokens=8, seed=2).token_ids
    assert first.token_ids != second.token_ids
