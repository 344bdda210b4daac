"""An interrupted experiment leaves a valid partial result, and goes on from there."""

from typing import Any

import pytest

from semantic.adapters.fakes.experiments import FakeEnvironment, example_experiment
from semantic.application.lab import Lab
from semantic.domain.errors import CannotResumeError
from semantic.domain.experiments import Decision, Estimate, Finding, Status, TokenComparison


class Interrupted:
    """Four steps, the third of which is interrupted the first time."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.interrupt_at = "step 3"

    def __call__(self, lab: Lab) -> None:
        kept = [lab.step(f"step {number}", lambda number=number: self.work(lab, number)) for number in range(1, 5)]
        lab.measure("C1", sum(kept) - 10, str(kept))

    def work(self, lab: Lab, number: int) -> int:
        label = f"step {number}"
        if label == self.interrupt_at:
            self.interrupt_at = ""
            raise KeyboardInterrupt
        self.done.append(label)
        lab.log(f"did {label}")
        lab.row(Number=number)
        lab.observe(Finding.POSITIVE, label)
        lab.compare(label, TokenComparison(number))
        lab.series("Line", "a", x_label="x", y_label="y").add(number, number)
        lab.estimate(label, [1.0, 2.0])
        if number == 1:
            lab.measure("N1", Estimate(5, 4, 6), "in step 1")
            lab.caveat("noted in step 1")
        return number


@pytest.fixture
def interrupted(bench: Any) -> Any:
    """A bench whose experiment was interrupted in its third step."""
    work = Interrupted()
    made = bench(example_experiment(), work)
    with pytest.raises(KeyboardInterrupt):
        made.runner.run("EXP-900")
    return made, work


def test_a_resumed_execution_repeats_no_step_that_had_ended_and_has_all_that_was_noted(interrupted: Any) -> None:
    made, work = interrupted
    partial = made.store.documents["EXP-900"].latest
    assert (partial.is_complete, partial.stopped_early) == (False, "interrupted")
    execution = made.runner.run("EXP-900", resume=True)
    assert work.done == ["step 1", "step 2", "step 3", "step 4"]
    assert [(run.number, run.label, run.kept) for run in execution.runs] == [
        (number, f"step {number}", number) for number in (1, 2, 3, 4)
    ]
    assert [(row.run, row.cells["Number"]) for row in execution.rows] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert [(one.run, one.comparison.compared) for one in execution.comparisons] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    line = next(one for one in execution.series if one.figure == "Line")
    assert [(point.run, point.y) for point in line.points] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert [seen.run for seen in execution.observations] == [1, 2, 3, 4]
    assert [one.run for one in execution.samples] == [1, 2, 3, 4]
    assert execution.caveats == ("noted in step 1",)
    measured = {result.criterion_id: (result.measured, result.low) for result in execution.criteria}
    assert measured == {"C1": (0.0, None), "N1": (5.0, 4)}
    assert execution.decision is Decision.CONDITIONAL_GO


def test_it_keeps_its_beginning_says_when_it_was_resumed_and_adds_the_working_times(interrupted: Any) -> None:
    made, _ = interrupted
    partial = made.store.documents["EXP-900"].latest
    execution = made.runner.run("EXP-900", resume=True)
    assert execution.started_at == partial.started_at
    assert len(execution.resumed_at) == 1
    assert execution.resumed_at[0] > partial.started_at
    assert execution.total_s > partial.total_s
    times = [point.x for one in execution.series if one.name == "process" for point in one.points]
    assert times == sorted(times)


def test_it_takes_the_partial_one_s_place_in_the_document(interrupted: Any) -> None:
    made, _ = interrupted
    made.runner.run("EXP-900", resume=True)
    assert made.store.documents["EXP-900"].history == ()


def test_without_resume_all_is_done_again_and_the_partial_one_is_history(interrupted: Any) -> None:
    made, work = interrupted
    made.runner.run("EXP-900")
    assert work.done[2:] == ["step 1", "step 2", "step 3", "step 4"]
    assert [past.stopped_early for past in made.store.documents["EXP-900"].history] == ["interrupted"]


def test_what_had_come_to_its_end_is_given_back(interrupted: Any) -> None:
    made, work = interrupted
    first = made.runner.run("EXP-900", resume=True)
    assert made.runner.run("EXP-900", resume=True) is first
    assert len(work.done) == 4


def test_where_nothing_is_stored_resuming_is_running(bench: Any) -> None:
    work = Interrupted()
    work.interrupt_at = ""
    assert bench(example_experiment(), work).runner.run("EXP-900", resume=True).is_complete


@pytest.mark.parametrize(
    ("how", "environment", "complaint"),
    [
        ({"profile": "full"}, FakeEnvironment(), "profile was quick, is full; parameter size was 2, is 1"),
        ({"overrides": {"seed": 7}}, FakeEnvironment(), "parameter seed was 42, is 7"),
        ({}, FakeEnvironment(commit="fff"), "commit was 0123456789abcdef, is fff"),
        ({}, FakeEnvironment(versions={"mlx": "9"}), "mlx was 0.32.4, is 9; mlx_lm was 0.32.2, is -"),
    ],
)
def test_it_is_refused_where_anything_is_different_naming_all_of_it(
    interrupted: Any, how: dict[str, Any], environment: FakeEnvironment, complaint: str
) -> None:
    made, work = interrupted
    made.runner.environment_probe = environment
    with pytest.raises(CannotResumeError, match=complaint) as told:
        made.runner.run("EXP-900", resume=True, **how)
    assert "run it without --resume" in str(told.value)
    assert work.done == ["step 1", "step 2"]


def test_a_crashed_step_is_done_again(bench: Any) -> None:
    tries: list[int] = []

    def carry(lab: Lab) -> None:
        def work() -> int:
            tries.append(1)
            if len(tries) == 1:
                raise RuntimeError("boom")
            return 7

        kept = lab.step("shaky", work)
        if len(tries) == 1:
            raise KeyboardInterrupt
        lab.measure("C1", kept - 7, "")

    made = bench(example_experiment(), carry)
    with pytest.raises(KeyboardInterrupt):
        made.runner.run("EXP-900")
    execution = made.runner.run("EXP-900", resume=True)
    assert (execution.decision, [run.failure for run in execution.runs]) == (Decision.GO, [""])


def test_runs_that_are_no_steps_are_done_again(bench: Any) -> None:
    runs: list[int] = []

    def carry(lab: Lab) -> None:
        with lab.run("warm-up"):
            runs.append(1)
        if len(runs) == 1:
            raise KeyboardInterrupt
        lab.measure("C1", 0, "")

    made = bench(example_experiment(), carry)
    with pytest.raises(KeyboardInterrupt):
        made.runner.run("EXP-900")
    assert len(made.runner.run("EXP-900", resume=True).runs) == 1
    assert runs == [1, 1]


def test_pairs_that_were_taken_are_not_taken_again_nor_is_their_warm_up(bench: Any) -> None:
    calls: list[str] = []

    def carry(lab: Lab) -> None:
        def ours() -> float:
            calls.append("ours")
            return 1.0

        times = lab.paired("short", ("ours", ours), ("theirs", lambda: 2.0), pairs=2)
        if len(calls) == 3:
            calls.append("interrupted")
            raise KeyboardInterrupt
        lab.measure("C1", len(times.ratios) - 2, "")

    made = bench(example_experiment(), carry)
    with pytest.raises(KeyboardInterrupt):
        made.runner.run("EXP-900")
    assert made.runner.run("EXP-900", resume=True).decision is Decision.GO
    assert calls == ["ours"] * 3 + ["interrupted"]


def test_what_was_noted_is_saved_while_it_runs_so_that_a_kill_loses_little(bench: Any) -> None:
    seen: list[Any] = []

    def carry(lab: Lab) -> None:
        lab.step("one", lambda: 1)
        seen.append(made.store.documents["EXP-900"].latest)
        lab.measure("C1", 0, "")

    made = bench(example_experiment(), carry, checkpoint_s=0.0)
    made.runner.run("EXP-900")
    (running,) = seen
    assert (running.status, running.is_complete, running.decision) == (Status.RUNNING, False, Decision.NO_GO)
    assert running.stopped_early == "it was still running when this was saved"
    assert made.store.documents["EXP-900"].history == ()


def test_it_is_not_saved_in_the_middle_more_often_than_asked(bench: Any) -> None:
    def carry(lab: Lab) -> None:
        lab.step("one", lambda: 1)
        assert made.store.documents == {}
        lab.measure("C1", 0, "")

    made = bench(example_experiment(), carry)
    assert made.runner.run("EXP-900").decision is Decision.GO


def test_a_kill_in_the_middle_can_be_resumed(bench: Any) -> None:
    done: list[str] = []
    kills = iter([True])

    class Killed(BaseException):
        pass

    def carry(lab: Lab) -> None:
        for label in ("one", "two"):
            lab.step(label, lambda label=label: done.append(label))
            if next(kills, False):
                raise Killed
        lab.measure("C1", 0, "")

    made = bench(example_experiment(), carry, checkpoint_s=0.0)
    with pytest.raises(Killed):
        made.runner.run("EXP-900")
    assert made.runner.run("EXP-900", resume=True).decision is Decision.GO
    assert done == ["one", "two"]
