"""From a model's name to a running engine, and how an adapter is swapped for another."""

from typing import Any

import attrs
import pytest
from dependency_injector import providers

from semantic.adapters.fakes import (
    FakeClock,
    FakeModel,
    FakeModelFactory,
    FakeModelSource,
    FakeTokenizer,
    RecordingTelemetry,
)
from semantic.adapters.fakes.archive import MemoryArchive
from semantic.adapters.fakes.tier import fake_tier
from semantic.application.engine_options import EngineOptions
from semantic.application.open_engine import OpenEngine, make_pool
from semantic.application.ports.model import ModelProfile
from semantic.container import make_container, open_engine
from semantic.domain.errors import BudgetTooSmallError, InvalidRequestError, ModelNotFoundError
from semantic.domain.value_objects import LayerSpec, ModelCacheSpec, Workspace

PLENTY = EngineOptions(memory_bytes=10**9)


def opener(**parts: Any) -> OpenEngine:
    given: dict[str, Any] = {
        "source": FakeModelSource(),
        "factory": FakeModelFactory(),
        "make_tokenizer": lambda tokenizer: tokenizer,
        "open_tier": lambda options: fake_tier(),
        "archive": MemoryArchive(),
        "clock": FakeClock(tick=0.001),
        "telemetry": RecordingTelemetry(),
    }
    return OpenEngine(**{**given, **parts})


def test_a_model_is_opened_by_its_name() -> None:
    source = FakeModelSource()
    with opener(source=source).open("fake", PLENTY) as engine:
        assert len(engine.generate("abc", max_tokens=3).text) == 3
        assert engine.profile.name == "fake"
    assert source.loaded == 1


def test_an_engine_knows_its_models_fingerprint_also_where_a_pair_brings_none() -> None:
    with opener(source=FakeModelSource(fingerprint="f1")).open("fake", PLENTY) as engine:
        assert engine.profile.fingerprint == "f1"
    with opener(factory=FakeModelFactory(fingerprint="f2")).open((FakeModel(), None), PLENTY) as engine:
        assert engine.profile.fingerprint == "f2"


def test_a_model_is_opened_as_the_pair_that_mlx_lm_loads_and_the_tokenizer_may_be_missing() -> None:
    with opener().open((FakeModel(), FakeTokenizer()), PLENTY) as engine:
        assert len(engine.generate("abc", max_tokens=3).text) == 3
    with opener().open((FakeModel(), None), PLENTY) as engine:
        assert engine.tokenizer is None
        assert len(engine.generate([1, 2], max_tokens=3).token_ids) == 3


@pytest.mark.parametrize("pair", [(), (FakeModel(),), (FakeModel(), FakeTokenizer(), {"config": 1})])
def test_a_tuple_that_is_no_pair_is_refused(pair: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidRequestError, match=r"\(model, tokenizer\) pair"):
        opener().open(pair, PLENTY)


def test_an_unknown_name_is_the_sources_error() -> None:
    with pytest.raises(ModelNotFoundError, match="known is 'fake'"):
        opener().open("fkae", PLENTY)


def test_opening_is_told_to_telemetry() -> None:
    telemetry = RecordingTelemetry()
    opener(telemetry=telemetry).open("fake", PLENTY).close()
    (event,) = telemetry.named("engine.open")
    assert event.facts["model"] == "fake"
    assert event.facts["cache_layout"] == "paged"


def profile_of(spec: ModelCacheSpec, context_length: int | None = None) -> ModelProfile:
    return attrs.evolve(FakeModel().profile, cache_spec=spec, context_length=context_length)


# -- the pool ----------------------------------------------------------------------------------------


def test_the_pool_has_as_many_blocks_as_the_budget_holds() -> None:
    spec = ModelCacheSpec(layers=[LayerSpec.full(8, 256)])  # 2,097,152 bytes a block
    assert make_pool(profile_of(spec), EngineOptions(memory_bytes=2_097_152 * 3 + 1)).total_blocks == 3
    with opener().open("fake", EngineOptions(memory_bytes=20_480)) as engine:
        assert engine.stats().pool_total_blocks == 10  # 2 layers, 2 heads, 8 wide, 16 tokens, 16 bit: 2,048 bytes


def test_a_budget_that_holds_no_block_is_refused() -> None:
    with pytest.raises(BudgetTooSmallError, match="a budget of 100 bytes holds no block"):
        opener().open("fake", EngineOptions(memory_bytes=100))


def test_a_model_without_tokens_to_keep_gets_room_for_a_full_context_of_every_sequence() -> None:
    spec = ModelCacheSpec(layers=[LayerSpec.recurrent(64)])
    assert make_pool(profile_of(spec, 1000), EngineOptions(memory_bytes=1, max_num_seqs=3)).total_blocks == 12


def test_what_a_step_needs_is_taken_off_the_budget_first() -> None:
    spec = ModelCacheSpec(layers=[LayerSpec.full(8, 256)])
    profile = attrs.evolve(profile_of(spec), workspace=Workspace(fixed_bytes=2_000_000))
    pool = make_pool(profile, EngineOptions(memory_bytes=10_000_000))
    assert (pool.total_blocks, pool.capacity) == (3, 8_000_000)
    with pytest.raises(BudgetTooSmallError, match="takes 2,097,152 and computing 2,000,000, which is 1,097,152 more"):
        make_pool(profile, EngineOptions(memory_bytes=3_000_000))


# -- options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("exactness", "roughly"),
        ("cache_layout", "ring"),
        ("max_num_seqs", 0),
        ("prefill_step_size", -1),
        ("memory_bytes", 0),
    ],
)
def test_an_impossible_option_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=option):
        EngineOptions(**{"memory_bytes": 1, option: value})


def test_bit_exactness_and_pages_exclude_each_other() -> None:
    with pytest.raises(InvalidRequestError, match='leave it at "auto"'):
        EngineOptions(memory_bytes=1, exactness="bit", cache_layout="paged")


def test_options_reach_the_factory_and_the_scheduler() -> None:
    factory = FakeModelFactory()
    options = EngineOptions(memory_bytes=10**9, exactness="bit", max_num_seqs=1, prefill_step_size=5)
    with opener(factory=factory).open("fake", options) as engine:
        assert engine.profile.prefill_step_size == 5
    assert factory.options == [options]


# -- the container -----------------------------------------------------------------------------------


def test_overriding_a_provider_swaps_an_adapter_in_one_line() -> None:
    container = make_container(quiet=True)
    container.model_factory.override(providers.Object(FakeModelFactory()))
    with open_engine(container, (FakeModel(), None)) as engine:
        assert len(engine.generate([1, 2, 3], max_tokens=4).token_ids) == 4


def test_the_whole_face_runs_on_fakes() -> None:
    container = make_container(model="fake", memory="1MB", max_num_seqs=2)
    container.model_source.override(providers.Object(FakeModelSource()))
    container.model_factory.override(providers.Object(FakeModelFactory()))
    container.make_tokenizer.override(providers.Object(lambda tokenizer: tokenizer))
    telemetry = RecordingTelemetry()
    container.telemetry.override(providers.Object(telemetry))
    with open_engine(container) as engine:
        many = engine.batch_generate(["a", "b", "c"], max_tokens=2)
        assert [len(completion.text) for completion in many] == [2, 2, 2]
        assert engine.stats().pool_total_blocks == 488  # 1,000,000 / 2,048
    assert len(telemetry.named("request.finished")) == 3
