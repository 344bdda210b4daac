"""EXP-009 on a probe that is told what bits do: GO where they lose what they may, NO-GO for each loss beyond."""

from collections.abc import Callable
from typing import Any

import pytest

from semantic.adapters.fakes.quality import DIVERGENCE, FakeQualityProbe
from semantic.application.ports.quality import KVMode
from semantic.domain.experiments import Decision, Execution

TINY = {"context_tokens": (300, 600), "predicted_tokens": 20, "recall_tokens": (400,)}


@pytest.fixture
def carry_out(bench: Callable[..., Any]) -> Callable[[FakeQualityProbe], Execution]:
    def run(probe: FakeQualityProbe) -> Execution:
        execution: Execution = bench(quality_probes=probe).runner.run("EXP-009", "quick", TINY)
        assert probe.is_closed
        return execution

    return run


def failed(execution: Execution) -> list[str]:
    return [result.criterion_id for result in execution.criteria if not result.passed]


def test_bits_that_lose_what_they_should_are_go(carry_out: Callable[..., Execution]) -> None:
    execution = carry_out(FakeQualityProbe())
    assert execution.decision is Decision.GO, execution.rationale
    assert failed(execution) == []
    by_mode = {row.cells["Mode"]: row.cells for row in execution.rows if row.cells.get("Text") == "all"}
    assert set(by_mode) == {str(mode) for mode in KVMode}
    assert by_mode["4 at rest"]["KL, mean (nats)"] == pytest.approx(0.002)
    assert by_mode["4 at rest"]["Bytes a token"] == 400 * 4.5 / 32
    answers = [row.cells for row in execution.rows if "Planted" in row.cells]
    assert [cells["What was planted?"] for cells in answers] == [True] * 2 * len(KVMode)


@pytest.mark.parametrize(
    ("probe", "criteria"),
    [
        (FakeQualityProbe(divergence={**DIVERGENCE, KVMode.IN_COMPUTE_8: 0.0006}), ["C1"]),
        (FakeQualityProbe(divergence={**DIVERGENCE, KVMode.AT_REST_8: 0.0006}), ["C1"]),
        (FakeQualityProbe(dearer={KVMode.AT_REST_4: 0.011}), ["C2"]),
        (FakeQualityProbe(divergence={**DIVERGENCE, KVMode.AT_REST_4: 0.0125}), ["C3", "N1"]),
        (FakeQualityProbe(bits={KVMode.AT_REST_4: 4.7}), ["C4"]),
    ],
    ids=["8 bits in compute diverge", "8 bits at rest diverge", "perplexity", "no better than by token", "more bytes"],
)
def test_bits_that_lose_more_are_no_go(
    probe: FakeQualityProbe, criteria: list[str], carry_out: Callable[..., Execution]
) -> None:
    execution = carry_out(probe)
    assert execution.decision is Decision.NO_GO
    assert failed(execution) == criteria


def test_what_exact_keys_and_values_forget_too_is_not_counted_against_fewer_bits(
    carry_out: Callable[..., Execution],
) -> None:
    execution = carry_out(FakeQualityProbe(forgets=tuple(KVMode)))
    assert execution.decision is Decision.GO
    assert failed(execution) == ["N3"]
    assert "exact KV recalls 0 of 2 planted things" in execution.observations[0].text


def test_what_is_forgotten_is_told_and_decides_nothing(carry_out: Callable[..., Execution]) -> None:
    execution = carry_out(FakeQualityProbe(forgets=(KVMode.AT_REST_4, KVMode.IN_COMPUTE_8)))
    assert execution.decision is Decision.GO
    assert failed(execution) == ["N2", "N3"]


def test_a_mode_that_the_model_does_not_allow_is_a_caveat(carry_out: Callable[..., Execution]) -> None:
    refuses = {KVMode.IN_COMPUTE_8: "windows", KVMode.IN_COMPUTE_4: "windows"}
    execution = carry_out(FakeQualityProbe(refuses=refuses))
    assert execution.decision is Decision.CONDITIONAL_GO
    assert execution.caveats == ("8 in compute was not run: windows", "4 in compute was not run: windows")
    assert failed(execution) == []


def test_a_text_that_could_not_be_read_is_no_go(carry_out: Callable[..., Execution]) -> None:
    class Broken(FakeQualityProbe):
        def agreements(self, context: Any, text: Any, modes: Any) -> Any:
            if len(context) == 600:
                raise MemoryError("no room")
            return super().agreements(context, text, modes)

    assert failed(carry_out(Broken())) == ["C5"]
