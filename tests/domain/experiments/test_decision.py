"""GO, NO-GO or CONDITIONAL GO follows from what was measured."""

from semantic.adapters.fakes.experiments import FakeEnvironment, example_experiment
from semantic.domain.experiments import (
    CriterionResult,
    Decision,
    Dependency,
    Hypothesis,
    Measurement,
    ModelRequirement,
    Prerequisites,
    Status,
    Verdict,
    at_most,
    decide,
    exactly,
    find_deviations,
    judge,
    must,
    nice,
    validate_hypothesis,
)


def results(*, must_value: float | None = 0, nice_value: float | None = 1) -> list[CriterionResult]:
    declared = [must("C1", "Differences", exactly(0)), nice("N1", "Seconds", at_most(10, "s"))]
    return [
        judge(criterion, None if value is None else Measurement(criterion.id, value, ""))
        for criterion, value in zip(declared, (must_value, nice_value), strict=True)
    ]


def test_it_is_go_when_every_must_passed() -> None:
    ruling = decide(results())
    assert (ruling.decision, ruling.status) == (Decision.GO, Status.PASSED)
    assert ruling.rationale == "All 1 must-pass criteria passed."


def test_it_is_no_go_when_a_must_failed_and_the_rationale_says_which() -> None:
    ruling = decide(results(must_value=3))
    assert (ruling.decision, ruling.status) == (Decision.NO_GO, Status.FAILED)
    assert ruling.rationale == "Not passed: C1 (Differences): 3, required == 0."


def test_it_is_no_go_when_a_must_was_not_measured() -> None:
    assert decide(results(must_value=None)).decision is Decision.NO_GO


def test_it_is_no_go_when_a_run_crashed_or_the_experiment_ended_early() -> None:
    assert "1 run crashed" in decide(results(), crashed_runs=1).rationale
    assert "stopped early: interrupted" in decide(results(), stopped_early="interrupted").rationale
    assert decide(results(), crashed_runs=1).decision is Decision.NO_GO
    assert decide(results(), stopped_early="interrupted").decision is Decision.NO_GO


def test_caveats_make_a_go_conditional_and_cannot_soften_a_no_go() -> None:
    assert decide(results(), ["one tie"]).decision is Decision.CONDITIONAL_GO
    assert decide(results(), ["one tie"]).rationale == "All 1 must-pass criteria passed, with caveats: one tie."
    assert decide(results(must_value=3), ["one tie"]).decision is Decision.NO_GO


def test_a_missed_nice_to_have_is_noted_and_decides_nothing() -> None:
    ruling = decide(results(nice_value=11))
    assert ruling.decision is Decision.GO
    assert ruling.rationale.endswith("Nice to have, missed: N1 (Seconds): 11, required <= 10 s.")


def test_a_hypothesis_passes_fails_or_is_partial_by_the_criteria_it_rests_on() -> None:
    by_id = {result.criterion_id: result for result in results(nice_value=11)}
    verdicts = [validate_hypothesis(Hypothesis("h", ids), by_id).verdict for ids in (("C1",), ("N1",), ("C1", "N1"))]
    assert verdicts == [Verdict.PASS, Verdict.FAIL, Verdict.PARTIAL]


def test_other_versions_models_left_out_and_another_model_are_deviations() -> None:
    experiment = example_experiment(
        prerequisites=Prerequisites(
            models=(
                ModelRequirement("SmolLM2-135M-Instruct", "fast testing"),
                ModelRequirement("Gemma 3 12B", "production validation", not_run_because="no memory"),
            ),
            dependencies=(Dependency("mlx_lm", "0.30.4"), Dependency("mlx"), Dependency("torch")),
        )
    )
    facts = FakeEnvironment().facts(())
    told = [(found.subject, found.declared, found.actual) for found in find_deviations(experiment, facts, "other")]
    assert told == [
        ("mlx_lm", "0.30.4", "0.32.2"),
        ("torch", "any version", "not installed"),
        ("Gemma 3 12B", "production validation", "not run: no memory"),
        ("model", "SmolLM2-135M-Instruct", "other"),
    ]


def test_a_model_goes_by_its_short_name_and_its_hub_name() -> None:
    facts = FakeEnvironment().facts(())
    assert find_deviations(example_experiment(), facts, "smollm2-135m") == ()
    assert find_deviations(example_experiment(), facts, "mlx-community/SmolLM2-135M-Instruct") == ()
