"""GO, NO-GO or CONDITIONAL GO follows from what was measured."""

from typing import Any

import pytest

from semantic.adapters.fakes.experiments import FakeEnvironment
from semantic.domain.experiments import (
    CriterionResult,
    Decision,
    Dependency,
    Hypothesis,
    Measurement,
    ModelRequirement,
    Need,
    NeedStatus,
    PrerequisiteCheck,
    Prerequisites,
    Status,
    Verdict,
    at_most,
    check_prerequisites,
    close_calls,
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


def checked(needs: Prerequisites, model: str = "smollm2-135m", **found: Any) -> tuple[PrerequisiteCheck, ...]:
    return check_prerequisites(needs, model, FakeEnvironment().versions, **found)


GEMMA = ModelRequirement("Gemma 3 12B", "production validation", not_run_because="no memory")
SMOL = ModelRequirement("SmolLM2-135M-Instruct", "fast testing")


def test_other_versions_models_left_out_another_model_and_set_parameters_are_deviations() -> None:
    needs = Prerequisites(models=(SMOL, GEMMA), dependencies=(Dependency("mlx_lm", "0.30.4"), Dependency("mlx")))
    found = find_deviations(checked(needs, "other"), {"pairs": 3, "seed": 42}, {"pairs": 10, "seed": 42})
    assert [(one.subject, one.declared, one.actual) for one in found] == [
        ("SmolLM2-135M-Instruct", "fast testing", "another model ran: other"),
        ("Gemma 3 12B", "production validation", "not run: no memory"),
        ("mlx_lm", "0.30.4", "0.32.2"),
        ("parameter pairs", "10", "3 (set by the caller)"),
    ]


@pytest.mark.parametrize("name", ["smollm2-135m", "mlx-community/SmolLM2-135M-Instruct", "SmolLM2 135M"])
def test_a_model_goes_by_its_short_name_and_its_hub_name(name: str) -> None:
    assert find_deviations(checked(Prerequisites(models=(SMOL,)), name)) == ()


def test_a_model_that_is_usually_left_out_is_met_where_it_runs() -> None:
    check = checked(Prerequisites(models=(SMOL, GEMMA)), "mlx-community/gemma-3-12b-it-4bit")
    assert [one.status for one in check] == [NeedStatus.DIFFERS, NeedStatus.MET]


def test_what_is_missing_says_how_to_get_it() -> None:
    needs = Prerequisites(
        models=(SMOL,), dependencies=(Dependency("no_such", "1.0"), Dependency("other")), components=("a.b:C", "d:E")
    )
    found = checked(needs, missing_components=["a.b:C"], model_problem="there is no model called 'smollm2-135m'")
    missing = [(one.kind, one.name, one.remedy) for one in found if one.status is NeedStatus.MISSING]
    assert missing == [
        (Need.MODEL, "smollm2-135m", "semantic model fetch smollm2-135m, or name another one with --model"),
        (Need.DEPENDENCY, "no_such", "pip install 'no-such==1.0'"),
        (Need.DEPENDENCY, "other", "pip install 'other'"),
        (
            Need.COMPONENT,
            "a.b:C",
            "install what provides a, or correct the declaration's prerequisites.components",
        ),
    ]


def test_a_must_that_passed_with_an_interval_over_the_limit_is_a_caveat() -> None:
    declared = [must("C1", "Ratio", at_most(1.2)), nice("N1", "Ratio", at_most(1.0))]
    wide = [judge(criterion, Measurement(criterion.id, 0.9, "", 0.8, 1.3)) for criterion in declared]
    assert close_calls(wide) == (
        "C1 (Ratio): 0.9, required <= 1.2, but its interval [0.8, 1.3] reaches over that: measure more",
    )
    failed = [judge(declared[0], Measurement("C1", 1.25, "", 1.1, 1.3))]
    assert close_calls(failed) == ()
