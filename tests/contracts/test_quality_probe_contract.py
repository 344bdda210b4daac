"""What quality probes do: the one that is told what bits do, and the one that runs a model."""

from collections.abc import Callable

import pytest

from semantic.adapters.fakes import FakeTokenizer
from semantic.adapters.fakes.quality import FakeQualityProbe
from semantic.application.ports.quality import KVMode, QualityProbe

MODES = (KVMode.AT_REST_4, KVMode.EXACT, KVMode.IN_COMPUTE_8)


def mlx_probe() -> QualityProbe:
    from tiny_models import DENSE, Architecture, build

    from semantic.adapters.mlx.quality_probe import MLXQualityProbe
    from semantic.application.ports.model_source import LoadedModel
    from semantic.container import make_container

    model = build(Architecture("llama", DENSE | {"head_dim": 32}))
    factory = make_container(quiet=True).model_factory()
    return MLXQualityProbe(factory, lambda: LoadedModel("tiny", model, None), lambda _: FakeTokenizer(), 32)


@pytest.fixture(params=["fake", pytest.param("mlx", marks=pytest.mark.mlx)])
def make_probe(request: pytest.FixtureRequest) -> Callable[[], QualityProbe]:
    return FakeQualityProbe if request.param == "fake" else mlx_probe


CONTEXT = [1 + number % 100 for number in range(40)]
TEXT = [7, 8, 9, 10, 11]


def test_every_token_of_a_text_but_the_first_is_predicted_in_every_mode(
    make_probe: Callable[[], QualityProbe],
) -> None:
    with make_probe() as probe:
        found = probe.agreements(CONTEXT, TEXT, MODES)
    assert tuple(found) == MODES
    for agreement in found.values():
        counts = map(len, (agreement.divergence, agreement.loss, agreement.exact_loss, agreement.same_choice))
        assert list(counts) == [4, 4, 4, 4]
        assert agreement.exact_loss == found[KVMode.EXACT].loss


def test_exact_agrees_with_itself_and_takes_the_most_bytes(make_probe: Callable[[], QualityProbe]) -> None:
    with make_probe() as probe:
        found = probe.agreements(CONTEXT, TEXT, MODES)
    exact = found[KVMode.EXACT]
    assert exact.divergence == (0.0,) * 4
    assert exact.same_choice == (True,) * 4
    assert max(found, key=lambda mode: found[mode].bytes_per_token) is KVMode.EXACT


def test_exact_is_what_others_are_held_against_even_where_it_was_not_asked_for(
    make_probe: Callable[[], QualityProbe],
) -> None:
    with make_probe() as probe:
        alone = probe.agreements(CONTEXT, TEXT, [KVMode.AT_REST_4])
        beside = probe.agreements(CONTEXT, TEXT, MODES)
    assert list(alone) == [KVMode.AT_REST_4]
    assert alone[KVMode.AT_REST_4].exact_loss == pytest.approx(beside[KVMode.EXACT].loss)


def test_answers_have_as_many_tokens_as_were_asked_for(make_probe: Callable[[], QualityProbe]) -> None:
    with make_probe() as probe:
        answers = probe.answers(CONTEXT, TEXT, MODES, max_tokens=3)
    assert tuple(answers) == MODES
    assert [len(answer) for answer in answers.values()] == [3, 3, 3]


def test_text_comes_back_from_its_tokens_and_a_mode_that_is_to_be_had_is_not_refused(
    make_probe: Callable[[], QualityProbe],
) -> None:
    with make_probe() as probe:
        assert probe.decode(probe.encode(" a gate")) == " a gate"
        assert [probe.refusal(mode) for mode in KVMode] == [None] * len(KVMode)
        probe.close()
