"""What an experiment notes with the lab is in its result, ready to be plotted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from semantic.adapters.fakes import FakeClock
from semantic.adapters.fakes.experiments import example_experiment
from semantic.application.lab import Lab
from semantic.application.ports.experiments import Progress
from semantic.domain.errors import ExperimentDeclarationError
from semantic.domain.experiments import (
    Decision,
    Estimate,
    Execution,
    Point,
    TokenComparison,
    Verdict,
    at_most,
    confidence_of,
    exactly,
    must,
)

CarryOut = Callable[..., Execution]


@pytest.fixture
def carry_out(bench: Any) -> CarryOut:
    def run(carry: Callable[[Lab], None], experiment: Any = None, **parts: Any) -> Execution:
        execution: Execution = bench(experiment or example_experiment(), carry, **parts).runner.run("EXP-900")
        return execution

    return run


def test_a_step_gives_back_what_it_did_with_tuples_as_lists_and_keeps_it(carry_out: CarryOut) -> None:
    given = []

    def carry(lab: Lab) -> None:
        given.append(lab.step("one", lambda: {"ratios": (0.5, 1), "name": "short"}))

    execution = carry_out(carry)
    assert given == [{"ratios": [0.5, 1], "name": "short"}]
    assert [(run.label, run.is_step, run.kept) for run in execution.runs] == [("one", True, given[0])]


def test_a_step_that_crashes_gives_none_and_the_next_goes_on(carry_out: CarryOut) -> None:
    given = []

    def carry(lab: Lab) -> None:
        given.append(lab.step("one", lambda: 1 / 0))
        given.append(lab.step("two", lambda: 2))

    execution = carry_out(carry)
    assert given == [None, 2]
    assert [run.failure for run in execution.runs] == ["crashed: ZeroDivisionError: division by zero", ""]
    assert [run.is_step for run in execution.runs] == [False, True]


def test_a_step_can_keep_only_what_a_results_file_can_hold(carry_out: CarryOut) -> None:
    execution = carry_out(lambda lab: lab.step("one", lambda: {"set": {1}}))
    assert "step 'one' gives back a set; it can keep numbers, texts" in execution.runs[0].failure


def test_a_row_can_hold_only_what_a_results_file_can_and_the_next_run_goes_on(carry_out: CarryOut) -> None:
    def carry(lab: Lab) -> None:
        with lab.run("one"):
            lab.row(Found={1})  # type: ignore[arg-type]
        with lab.run("two"):
            lab.row(Seconds=np.float32(0.5), Tokens=np.int64(3))

    execution = carry_out(carry)
    assert "a row's column 'Found' is a set; it can hold a number" in execution.runs[0].failure
    assert execution.rows[0].cells == {"Seconds": 0.5, "Tokens": 3}
    assert [type(cell) for cell in execution.rows[0].cells.values()] == [float, int]


def test_labels_of_steps_are_unique(carry_out: CarryOut) -> None:
    def carry(lab: Lab) -> None:
        lab.step("one", lambda: None)
        lab.step("one", lambda: None)

    assert "has two steps 'one'" in carry_out(carry).stopped_early


def test_a_step_draws_the_same_whatever_was_drawn_before_it(carry_out: CarryOut) -> None:
    drawn: list[float] = []

    def carry(lab: Lab) -> None:
        if not drawn:
            lab.step("zero", lambda: lab.random.random())
        drawn.extend([lab.step("one", lambda: lab.random.random()), lab.random.random()])

    carry_out(carry)
    carry_out(carry)
    assert drawn[0] == drawn[2]
    assert drawn[1] == drawn[3]
    assert drawn[0] != drawn[1]


def test_an_estimate_measures_its_criterion_with_interval_and_keeps_the_values(carry_out: CarryOut) -> None:
    experiment = example_experiment(criteria=(must("C1", "Seconds", at_most(2, "s")), must("N1", "x", exactly(0))))

    def carry(lab: Lab) -> None:
        lab.estimate("short", [1.0, 1.1, 0.9, 1.0, 1.2, 0.8], figure="Times", criterion="C1")
        lab.measure("N1", 0, "none")

    execution = carry_out(carry, experiment)
    (samples,) = execution.samples
    assert (samples.figure, samples.name, samples.unit, samples.limit) == ("Times", "short", "s", 2)
    assert samples.values == (1.0, 1.1, 0.9, 1.0, 1.2, 0.8)
    result = execution.criteria[0]
    assert (result.measured, result.low, result.high) == (1.0, samples.estimate.low, samples.estimate.high)
    assert result.evidence == f"median {samples.estimate} (95% bootstrap) of 6"
    assert execution.decision is Decision.GO


def test_an_interval_over_the_limit_makes_a_go_conditional(carry_out: CarryOut) -> None:
    experiment = example_experiment(criteria=(must("C1", "Ratio", at_most(1.2)), must("N1", "x", exactly(0))))

    def carry(lab: Lab) -> None:
        lab.measure("C1", Estimate(1.1, 0.9, 1.3), "noisy")
        lab.measure("N1", 0, "none")

    execution = carry_out(carry, experiment)
    assert execution.decision is Decision.CONDITIONAL_GO
    assert execution.caveats == (
        "C1 (Ratio): 1.1, required <= 1.2, but its interval [0.9, 1.3] reaches over that: measure more",
    )


def test_few_values_support_no_high_confidence() -> None:
    assert [confidence_of(count) for count in (1, 2, 3, 6, 60)] == [0.0, 0.5, 0.75, 0.95, 0.95]


def test_series_carry_axes_and_units_and_the_run_of_each_point(carry_out: CarryOut) -> None:
    def carry(lab: Lab) -> None:
        axes = {"x_label": "context", "x_unit": "tokens", "y_label": "first token", "y_unit": "s"}
        with lab.run("one"):
            lab.series("Latency", "engine", **axes).add(256, 0.5)
        lab.series("Latency", "engine", **axes).add(512, Estimate(1.0, 0.9, 1.1))

    series = {(one.figure, one.name): one for one in carry_out(carry).series}
    latency = series["Latency", "engine"]
    assert latency.points == (Point(256.0, 0.5, None, None, 1), Point(512.0, 1.0, 0.9, 1.1, 0))
    assert (latency.x_label, latency.x_unit, latency.y_label, latency.y_unit) == (
        "context",
        "tokens",
        "first token",
        "s",
    )


def test_lines_of_one_figure_with_other_axes_are_refused(carry_out: CarryOut) -> None:
    def carry(lab: Lab) -> None:
        lab.series("Latency", "a", x_label="context", y_label="time", y_unit="s")
        lab.series("Latency", "b", x_label="context", y_label="time", y_unit="ms")

    assert "figure 'Latency' has the axes" in carry_out(carry).stopped_early


def test_memory_is_noted_at_the_end_of_each_run(carry_out: CarryOut) -> None:
    def carry(lab: Lab) -> None:
        for number in range(3):
            with lab.run(f"run {number}"):
                pass

    series = {one.name: one for one in carry_out(carry).series if one.figure == "Memory over time"}
    assert sorted(series) == ["MLX, active", "process"]
    assert [point.run for point in series["process"].points] == [1, 2, 3]
    assert [point.y for point in series["process"].points] == [100.0] * 3
    times = [point.x for point in series["process"].points]
    assert times == sorted(times)


def test_compared_sequences_are_kept_and_counted_by_lane(carry_out: CarryOut) -> None:
    tallies = []

    def carry(lab: Lab) -> None:
        with lab.run("one"):
            assert lab.compare("short", TokenComparison(5), lane="bit")
            assert not lab.compare("short", TokenComparison(5), lane="token", texts_agree=False)
            assert lab.compare("long", TokenComparison(3, 2, 9, 6, 1e-5, is_tie=True), lane="token")
        tallies.extend([lab.tally("bit"), lab.tally("token")])

    execution = carry_out(carry)
    assert [(tally.sequences, tally.equal, len(tally.ties), len(tally.mismatches)) for tally in tallies] == [
        (1, 1, 0, 0),
        (2, 0, 1, 1),
    ]
    assert [(one.lane, one.label, one.run) for one in execution.comparisons] == [
        ("bit", "short", 1),
        ("token", "short", 1),
        ("token", "long", 1),
    ]


def test_pairs_alternate_after_a_warm_up_and_each_is_a_step_with_a_row(carry_out: CarryOut) -> None:
    order: list[str] = []
    clock = FakeClock()
    found = []

    def slow() -> None:
        order.append("slow")
        clock.advance(2.0)

    def quick() -> float:
        order.append("quick")
        return 0.5

    def carry(lab: Lab) -> None:
        found.append(lab.paired("short", ("slow", slow), ("quick", quick), pairs=3))

    execution = carry_out(carry, clock=clock)
    assert order == ["slow", "quick", "slow", "quick", "quick", "slow", "slow", "quick"]
    assert found[0].ratios == (4.0, 4.0, 4.0)
    assert [run.label for run in execution.runs] == [
        "short, warm-up",
        "short, pair 1",
        "short, pair 2",
        "short, pair 3",
    ]
    assert [row.cells["First"] for row in execution.rows] == ["slow", "quick", "slow"]
    assert (execution.rows[0].cells["slow (s)"], execution.rows[0].cells["quick (s)"]) == (2.0, 0.5)


def test_a_pair_that_crashes_is_left_out_and_the_others_count(carry_out: CarryOut) -> None:
    clock, calls, found = FakeClock(), [], []

    def sometimes() -> None:
        calls.append(1)
        clock.advance(1.0)
        if len(calls) == 2:
            raise RuntimeError("boom")

    def carry(lab: Lab) -> None:
        found.append(lab.paired("short", ("a", sometimes), ("b", lambda: 1.0), pairs=3, warm_up=0))

    execution = carry_out(carry, clock=clock)
    assert found[0].ratios == (1.0, 1.0)
    assert execution.decision is Decision.NO_GO


def test_progress_tells_the_time_left_at_the_pace_so_far(carry_out: CarryOut) -> None:
    clock = FakeClock()
    told: list[Progress] = []

    def carry(lab: Lab) -> None:
        for done in range(3):
            lab.progress("step", done, 4)
            clock.advance(10)

    carry_out(carry, clock=clock, listener=told.append)
    assert [one.left_s for one in told] == [None, 30.0, 20.0]


def test_a_forgotten_criterion_is_an_issue_that_points_at_its_declaration(carry_out: CarryOut) -> None:
    execution = carry_out(lambda lab: None)
    assert [seen.text for seen in execution.observations] == [
        "here.py:1: criterion C1 is declared and was not measured",
        "here.py:1: criterion N1 is declared and was not measured",
    ]
    assert [verdict.verdict for verdict in execution.hypotheses] == [Verdict.FAIL, Verdict.FAIL]


@pytest.mark.parametrize("nested", [lambda lab: lab.run("inner").__enter__(), lambda lab: lab.step("inner", list)])
def test_runs_do_not_nest(carry_out: CarryOut, nested: Callable[[Lab], None]) -> None:
    def carry(lab: Lab) -> None:
        with lab.run("outer"):
            with pytest.raises(ExperimentDeclarationError, match="runs do not nest"):
                nested(lab)
            lab.log("went on")

    assert carry_out(carry).runs[0].lines == ("went on",)
