"""The quality probe's exact mode is the engine's own; the others are off by what rounding does, and by nothing else."""

import math
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from tiny_models import ARCHITECTURES, DENSE, Architecture, build

import semantic
from semantic.adapters.fakes import FakeTokenizer
from semantic.adapters.mlx.quality_probe import MLXQualityProbe
from semantic.application.ports.model_source import LoadedModel
from semantic.application.ports.quality import KVMode
from semantic.container import make_container

pytestmark = pytest.mark.mlx

AT_REST = [KVMode.AT_REST_8, KVMode.AT_REST_8_4, KVMode.AT_REST_4, KVMode.PUBLISHED_4]
IN_COMPUTE = [KVMode.IN_COMPUTE_8, KVMode.IN_COMPUTE_8_4, KVMode.IN_COMPUTE_4]
CONTEXT, TEXT = 300, 20


def ids(tokens: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 128, tokens)]


def probe_of(model: Any) -> MLXQualityProbe:
    factory = make_container(quiet=True).model_factory()
    return MLXQualityProbe(factory, lambda: LoadedModel("tiny", model, None), lambda _: FakeTokenizer(), 32)


@pytest.fixture(scope="module")
def model() -> Any:
    return build(Architecture("llama", DENSE | {"head_dim": 32}))


@pytest.fixture
def probe(model: Any) -> Iterator[MLXQualityProbe]:
    with probe_of(model) as made:
        yield made


def cold_losses(model: Any, token_ids: list[int]) -> list[float]:
    """What stock mlx_lm's own cache gives for the tokens of the text, in one forward over everything."""
    logits = model(mx.array([token_ids[:-1]]))[0].astype(mx.float32)
    logprobs = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    return [-float(logprobs[i, token_ids[i + 1]]) for i in range(CONTEXT, len(token_ids) - 1)]


def test_exact_losses_are_the_models_own_for_every_token_but_the_first(model: Any, probe: MLXQualityProbe) -> None:
    context, text = ids(CONTEXT), ids(TEXT, seed=1)
    exact = probe.agreements(context, text, [KVMode.EXACT])[KVMode.EXACT]
    assert exact.loss == exact.exact_loss
    assert exact.loss == pytest.approx(cold_losses(model, [*context, *text]), abs=1e-4)
    assert exact.divergence == (0.0,) * (TEXT - 1)
    assert exact.same_choice == (True,) * (TEXT - 1)


def test_fewer_bits_diverge_more_and_take_fewer_bytes(probe: MLXQualityProbe) -> None:
    found = probe.agreements(ids(CONTEXT), ids(TEXT, seed=1), [KVMode.EXACT, *AT_REST, *IN_COMPUTE])
    mean = {mode: math.fsum(each.divergence) / (TEXT - 1) for mode, each in found.items()}
    assert 0 < mean[KVMode.AT_REST_8] < mean[KVMode.AT_REST_8_4] < mean[KVMode.PUBLISHED_4]
    assert mean[KVMode.AT_REST_8] < mean[KVMode.AT_REST_4]
    assert 0 < mean[KVMode.IN_COMPUTE_8] < mean[KVMode.IN_COMPUTE_8_4] < mean[KVMode.IN_COMPUTE_4]
    size = {mode: each.bytes_per_token for mode, each in found.items()}
    assert size[KVMode.AT_REST_4] < size[KVMode.AT_REST_8_4] < size[KVMode.AT_REST_8] < size[KVMode.EXACT]


def test_bytes_are_those_of_the_arrays_with_their_scales(probe: MLXQualityProbe) -> None:
    found = probe.agreements(ids(512), ids(2, seed=1), [KVMode.PUBLISHED_4, KVMode.IN_COMPUTE_8, KVMode.EXACT])
    values = 2 * 2 * (32 + 32)  # layers, heads, dimensions
    assert found[KVMode.PUBLISHED_4].bytes_per_token == values * (4 + 2 * 16 / 32) / 8
    assert found[KVMode.IN_COMPUTE_8].bytes_per_token == values * (8 + 2 * 32 / 32) / 8
    assert found[KVMode.EXACT].bytes_per_token == values * 4


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        (KVMode.EXACT, {}),
        (KVMode.AT_REST_4, {"kv_at_rest": "4"}),
        (KVMode.IN_COMPUTE_8, {"kv_bits": 8, "kv_group_size": 32}),
    ],
    ids=str,
)
def test_answers_are_what_an_engine_with_that_option_says(
    mode: KVMode, options: dict[str, Any], model: Any, probe: MLXQualityProbe
) -> None:
    context, question = ids(CONTEXT), ids(9, seed=2)
    with semantic.open((model, None), memory="64MB", **options) as engine:
        engine.generate(context, max_tokens=1)  # leaves the context behind, from where it is taken up
        said = engine.generate([*context, *question], max_tokens=6).token_ids
    assert probe.answers(context, question, [mode], max_tokens=6)[mode] == said


def test_windows_have_modes_at_rest_and_say_why_they_have_none_in_compute() -> None:
    with probe_of(build(ARCHITECTURES["gemma3"])) as probe:
        assert probe.refusal(KVMode.AT_REST_4) is None
        assert "RotatingKVCache" in str(probe.refusal(KVMode.IN_COMPUTE_8))
        found = probe.agreements(ids(CONTEXT), ids(TEXT, seed=1), [KVMode.AT_REST_8])
        assert 0 < math.fsum(found[KVMode.AT_REST_8].divergence) / (TEXT - 1) < 0.01


def test_the_models_modules_are_given_back_as_they_were(model: Any, probe: MLXQualityProbe) -> None:
    import mlx_lm.models.llama as module

    before = module.scaled_dot_product_attention
    probe.agreements(ids(40), ids(4), [KVMode.AT_REST_4, KVMode.IN_COMPUTE_4])
    assert module.scaled_dot_product_attention is before
