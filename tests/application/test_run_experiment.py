"""The use case: whatever happens inside an experiment, a result, a decision and a report come out."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.fakes.experiments import FakeEnvironment, MemoryReviews, example_experiment
from semantic.adapters.reports.json_store import JsonResultsStore
from semantic.application.lab import Lab
from semantic.domain.errors import (
    ExperimentDeclarationError,
    ExperimentNotFoundError,
    MissingPrerequisiteError,
    ResultsNotWritableError,
    ResultsTooNewError,
    ResultsUnreadableError,
)
from semantic.domain.experiments import (
    Decision,
    Dependency,
    Execution,
    FailurePlan,
    FailureScenario,
    Finding,
    ModelRequirement,
    NeedStatus,
    Prerequisites,
    Review,
    SignOff,
    Status,
    Verdict,
)


def good(lab: Lab) -> None:
    with lab.run("only"):
        lab.log("counting")
        lab.row(Prompt="short", Match=True)
    lab.measure("C1", 0, "nothing differs")
    lab.measure("N1", 2, "two seconds")
    lab.observe(Finding.POSITIVE, "quick")


def carried_out(bench: Any, run: Callable[[Lab], None], **parts: Any) -> Execution:
    execution: Execution = bench(example_experiment(), run, **parts).runner.run("EXP-900")
    return execution


def test_a_good_run_is_go_and_everything_it_noted_is_in_the_result(bench: Any) -> None:
    execution = carried_out(bench, good)
    assert (execution.decision, execution.status) == (Decision.GO, Status.PASSED)
    assert [(run.number, run.label, run.lines) for run in execution.runs] == [(1, "only", ("counting",))]
    assert [(row.run, row.cells) for row in execution.rows] == [(1, {"Prompt": "short", "Match": True})]
    assert [verdict.verdict for verdict in execution.hypotheses] == [Verdict.PASS, Verdict.PASS]
    assert [seen.text for seen in execution.observations] == ["quick"]
    assert execution.parameters == {"seed": 42, "size": 2}
    assert execution.total_s > 0


def test_results_are_saved_and_reported(bench: Any) -> None:
    made = bench(example_experiment(), good)
    made.runner.run("EXP-900")
    assert made.store.documents["EXP-900"].latest.decision is Decision.GO
    assert made.reports.written == ["EXP-900"]
    assert made.telemetry.named("experiment.finished")[0].facts["decision"] == "GO"


def test_a_second_execution_keeps_the_first_in_the_history(bench: Any) -> None:
    made = bench(example_experiment(), good)
    made.runner.run("EXP-900")
    made.runner.run("EXP-900", "full")
    document = made.store.documents["EXP-900"]
    assert document.latest.profile == "full"
    assert [
        (past.profile, past.decision, {name: of.value for name, of in past.measured.items()})
        for past in document.history
    ] == [("quick", Decision.GO, {"C1": 0.0, "N1": 2.0})]


def test_the_history_is_bounded(bench: Any) -> None:
    made = bench(example_experiment(), good)
    for _ in range(25):
        made.runner.run("EXP-900")
    assert len(made.store.documents["EXP-900"].history) == 20


def test_a_crash_inside_a_run_is_logged_with_its_traceback_and_the_next_run_goes_on(bench: Any) -> None:
    def run(lab: Lab) -> None:
        with lab.run("first"):
            raise RuntimeError("boom")
        with lab.run("second"):
            lab.log("still here")
        good(lab)

    execution = carried_out(bench, run)
    assert execution.decision is Decision.NO_GO
    assert "1 run crashed" in execution.rationale
    assert execution.runs[0].failure == "crashed: RuntimeError: boom"
    assert 'raise RuntimeError("boom")' in execution.runs[0].error
    assert execution.runs[1].lines == ("still here",)
    assert not execution.stopped_early


def test_a_crash_outside_of_a_run_ends_the_experiment_and_is_still_reported(bench: Any) -> None:
    def run(lab: Lab) -> None:
        good(lab)
        raise RuntimeError("boom")

    made = bench(example_experiment(), run)
    execution = made.runner.run("EXP-900")
    assert execution.decision is Decision.NO_GO
    assert re.search(r"stopped early: crashed outside of a run, .*: RuntimeError: boom", execution.rationale)
    assert made.reports.written == ["EXP-900"]


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_script_that_exits_ends_itself_and_not_the_runner(bench: Any, where: str) -> None:
    def run(lab: Lab) -> None:
        if where == "inside":
            with lab.run("only"):
                sys.exit(3)
        else:
            sys.exit(3)

    execution = carried_out(bench, run)
    assert execution.decision is Decision.NO_GO
    assert "SystemExit: 3" in (execution.runs[0].error if where == "inside" else execution.stopped_early)


def test_the_critical_trigger_stops_after_so_many_failures_in_a_row(bench: Any) -> None:
    begun = []

    def run(lab: Lab) -> None:
        for number in range(10):
            with lab.run(f"run {number}"):
                begun.append(number)
                if number != 1:
                    lab.fail("differs")

    execution = carried_out(bench, run)
    assert begun == [0, 1, 2, 3, 4]
    assert execution.stopped_early.startswith("critical trigger: 3 consecutive runs fail")
    assert execution.runs[4].lines == ("FAILED: differs",)


def test_an_interrupt_leaves_a_valid_result_that_says_so_and_goes_on_upwards(bench: Any) -> None:
    def run(lab: Lab) -> None:
        with lab.run("long"):
            lab.log("begun")
            raise KeyboardInterrupt

    made = bench(example_experiment(), run)
    with pytest.raises(KeyboardInterrupt):
        made.runner.run("EXP-900")
    latest = made.store.documents["EXP-900"].latest
    assert (latest.stopped_early, latest.decision) == ("interrupted", Decision.NO_GO)
    assert (latest.runs[0].lines, latest.runs[0].failure) == (("begun",), "interrupted")


def test_caveats_make_it_conditional(bench: Any) -> None:
    def run(lab: Lab) -> None:
        good(lab)
        lab.caveat("one tie")

    execution = carried_out(bench, run)
    assert (execution.decision, execution.caveats) == (Decision.CONDITIONAL_GO, ("one tie",))


def test_a_criterion_that_was_forgotten_is_no_go(bench: Any) -> None:
    execution = carried_out(bench, lambda lab: None)
    assert execution.decision is Decision.NO_GO
    assert "C1 (Differences): not measured" in execution.rationale


@pytest.mark.parametrize(
    ("misuse", "complaint"),
    [
        (lambda lab: lab.measure("C7", 0, ""), "'C7', which is none of its criteria"),
        (lambda lab: lab.log("homeless"), r"lab.log\(\) outside of a run"),
        (lambda lab: lab.row(a=1), r"lab.row\(\) outside of a run"),
    ],
)
def test_misuse_of_the_lab_is_a_declaration_error(bench: Any, misuse: Callable[[Lab], None], complaint: str) -> None:
    def run(lab: Lab) -> None:
        with pytest.raises(ExperimentDeclarationError, match=complaint):
            misuse(lab)
        good(lab)

    assert carried_out(bench, run).decision is Decision.GO


def test_missing_code_is_an_error_before_anything_runs(bench: Any) -> None:
    experiment = example_experiment(prerequisites=Prerequisites(models=(), components=("a.b:C", "d:E")))
    made = bench(experiment, good, environment_probe=FakeEnvironment(absent=["a.b:C"]))
    with pytest.raises(
        MissingPrerequisiteError, match=r"EXP-900 \(here.py:1\) needs what is not there: component a.b:C"
    ):
        made.runner.run("EXP-900")
    assert made.store.documents == {}


def test_results_of_a_newer_schema_are_refused_before_anything_runs(bench: Any) -> None:
    class Newer:
        def prepare(self) -> None: ...

        def load(self, experiment_id: str, variant: str) -> None:
            raise ResultsTooNewError("x.json", 2, 1)

    def run(lab: Lab) -> None:
        pytest.fail("the experiment ran")

    with pytest.raises(ResultsTooNewError):
        bench(example_experiment(), run, results_store=Newer()).runner.run("EXP-900")


def test_unreadable_results_are_warned_about_and_set_aside(bench: Any) -> None:
    saved = []

    class Damaged:
        def prepare(self) -> None: ...

        def location(self, experiment_id: str, variant: str) -> str:
            return "here"

        def load(self, experiment_id: str, variant: str = "") -> None:
            raise ResultsUnreadableError("damaged")

        def set_aside(self, experiment_id: str, variant: str) -> str:
            return "aside"

        def save(self, document: Any) -> str:
            saved.append(document)
            return "here"

    made = bench(example_experiment(), good, results_store=Damaged())
    made.runner.run("EXP-900")
    assert len(saved) == 1
    warnings = made.telemetry.named("experiment.results_unreadable")
    assert [(event.level, event.facts["kept_as"]) for event in warnings] == [("warning", "aside")]


def test_all_ids_are_looked_up_before_the_first_runs(bench: Any) -> None:
    made = bench(example_experiment(), good)
    with pytest.raises(ExperimentNotFoundError):
        list(made.runner.run_all(["EXP-900", "EXP-901"]))
    assert made.store.documents == {}


def test_the_reference_is_started_once_and_asked_once_for_the_same_thing(bench: Any) -> None:
    def run(lab: Lab) -> None:
        lab.reference.expected("abc", max_tokens=3)
        lab.reference.expected("abc", max_tokens=3)
        lab.reference.expected([{"role": "user", "content": "abc"}], max_tokens=3)
        good(lab)

    made = bench(example_experiment(), run)
    with made.runner as runner:
        list(runner.run_all(["EXP-900", "EXP-900"]))
    assert [(reference.runs, reference.is_closed) for reference in made.references] == [(2, True)]


def test_the_reference_is_not_started_where_nobody_asks(bench: Any) -> None:
    made = bench(example_experiment(), good)
    made.runner.run("EXP-900")
    assert made.references == []


def test_random_numbers_follow_the_seed(bench: Any) -> None:
    drawn = []

    def run(lab: Lab) -> None:
        drawn.append(lab.random.random())
        good(lab)

    made = bench(example_experiment(), run)
    for overrides in ({}, {}, {"seed": 43}):
        made.runner.run("EXP-900", "quick", overrides)
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_trigger_s_number_of_failures_is_the_experiment_s(bench: Any) -> None:
    from semantic.domain.experiments import CriticalTrigger

    plan = FailurePlan((FailureScenario("a", "b", "c"),), CriticalTrigger("one is enough", 1))

    def run(lab: Lab) -> None:
        with lab.run("first"):
            raise ValueError("boom")
        pytest.fail("went on")

    execution = bench(example_experiment(failure_plan=plan), run).runner.run("EXP-900")
    assert execution.stopped_early == "critical trigger: one is enough"


def test_the_index_is_written_after_each_execution(bench: Any) -> None:
    made = bench(example_experiment(), good)
    made.runner.run("EXP-900")
    (line,) = made.reports.listed
    assert (line.entry.id, line.document) == ("EXP-900", made.store.documents["EXP-900"])


@pytest.mark.parametrize(
    ("needs", "environment", "complaint"),
    [
        (
            Prerequisites(models=(ModelRequirement("SmolLM2-135M-Instruct", "testing"),)),
            FakeEnvironment(problem="there is no model called 'smollm2-135m'"),
            r"there is no model .*: semantic model fetch smollm2-135m, or name another one with --model",
        ),
        (Prerequisites(dependencies=(Dependency("no_such"),)), FakeEnvironment(), "pip install 'no-such'"),
        (Prerequisites(components=("a.b:C",)), FakeEnvironment(absent=["a.b:C"]), "component a.b:C .*: install"),
    ],
)
def test_a_missing_prerequisite_is_told_with_how_to_get_it_before_anything_runs(
    bench: Any, needs: Prerequisites, environment: FakeEnvironment, complaint: str
) -> None:
    made = bench(example_experiment(prerequisites=needs), lambda lab: pytest.fail("ran"), environment_probe=environment)
    with pytest.raises(MissingPrerequisiteError, match=complaint):
        made.runner.run("EXP-900")


def test_prerequisites_are_in_the_result_as_they_were_found(bench: Any) -> None:
    needs = Prerequisites(dependencies=(Dependency("mlx_lm", "0.30.4"), Dependency("mlx")))
    execution = bench(example_experiment(prerequisites=needs), good).runner.run("EXP-900")
    assert [(one.name, one.wanted, one.found, one.status) for one in execution.prerequisites] == [
        ("mlx_lm", "0.30.4", "0.32.2", NeedStatus.DIFFERS),
        ("mlx", "any version", "0.32.4", NeedStatus.MET),
    ]


def test_parameters_that_the_caller_set_are_deviations(bench: Any) -> None:
    execution = bench(example_experiment(), good).runner.run("EXP-900", "quick", {"size": 5})
    assert execution.overrides == {"size": 5}
    assert [(one.subject, one.declared, one.actual) for one in execution.deviations] == [
        ("parameter size", "2", "5 (set by the caller)")
    ]


def test_the_report_has_the_review_that_lies_beside_the_results(bench: Any) -> None:
    review = Review(sign_off=SignOff(reviewer="R. Viewer", approval_date="2026-01-02"))
    made = bench(example_experiment(), good, reviews=MemoryReviews({"EXP-900": review}))
    made.runner.run("EXP-900")
    assert made.reports.declarations[0].sign_off.reviewer == "R. Viewer"


def test_a_combination_of_a_sweep_is_stored_apart_and_replaces_no_report(bench: Any) -> None:
    made = bench(example_experiment(), good)
    made.runner.run("EXP-900", "quick", {"size": 5}, variant="size=5")
    assert list(made.store.documents) == ["EXP-900 size=5"]
    assert made.reports.written == []


def test_an_experiment_that_cannot_begin_does_not_keep_the_others(bench: Any) -> None:
    made = bench(
        example_experiment(prerequisites=Prerequisites(components=("a.b:C",))),
        good,
        environment_probe=FakeEnvironment(absent=["a.b:C"]),
    )
    outcomes = list(made.runner.run_all(["EXP-900", "EXP-900"]))
    assert [type(outcome.error) for outcome in outcomes] == [MissingPrerequisiteError] * 2


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    store = JsonResultsStore(tmp_path / "data")
    made = bench(example_experiment(), lambda lab: pytest.fail("ran"), results_store=store)
    with pytest.raises(ResultsNotWritableError, match=r"data cannot be written .*--data"):
        made.runner.run("EXP-900")
