"""EXP-016 on fakes: GO of an engine that remembers, NO-GO of each thing that it is there to catch."""

from collections.abc import Callable
from typing import Any

import pytest

from semantic.adapters.fakes import FakeClock, fake_next_token
from semantic.adapters.fakes.processes import WorkingModel
from semantic.adapters.fakes.stores import FakeStores
from semantic.domain.experiments import Decision, Execution

SMALL = {"max_new_tokens": 4, "primed_tokens": (300, 400), "experts": 3, "memory": "1GB"}

Carry = Callable[..., Execution]


@pytest.fixture
def carry_out(bench: Any, stepped: Any) -> Carry:
    """Runs a small version of it. ``model`` makes the model of each engine, ``engines`` is their factory's class."""

    def run(model: Callable[[FakeClock], Any] = working_model, engines: Any = stepped) -> Execution:
        clock = FakeClock(tick=0.001)
        factory = engines(lambda lane: model(clock), FakeStores(), clock)
        execution: Execution = bench(engine_factory=factory).runner.run("EXP-016", "quick", SMALL)
        return execution

    return run


def working_model(clock: FakeClock) -> WorkingModel:
    return WorkingModel(clock, block_tokens=64)


def failed(execution: Execution) -> list[str]:
    return [result.criterion_id for result in execution.criteria if not result.passed and result.level == "must"]


def test_an_engine_that_remembers_is_go(carry_out: Carry) -> None:
    execution = carry_out()
    assert not [run.error for run in execution.runs if run.error]
    assert execution.decision is Decision.GO, execution.rationale


def test_it_takes_25_turns_of_an_inquiry_and_asks_each_expert_three_times(carry_out: Carry) -> None:
    phases = [row.cells["Phase"] for row in carry_out().rows if "Agent" in row.cells]
    assert {phase: phases.count(phase) for phase in phases} == {
        "1 statements": 4,
        "2 records": 6,
        "3 hearing": 6,
        "4 drafts": 5,
        "5 findings": 4,
        "priming": 3,
        "cross queries": 3,
        "repeats": 3,
    }


def test_with_and_without_memory_take_turns_in_coming_first(carry_out: Carry) -> None:
    opened: list[int] = []
    order: list[int] = []

    class Noting(WorkingModel):
        def __init__(self, clock: FakeClock) -> None:
            super().__init__(clock, block_tokens=64)
            self.number = len(opened) % 2
            opened.append(self.number)

        def decode(self, rows: Any) -> list[int]:
            order.append(self.number)
            return super().decode(rows)

    carry_out(Noting)
    after_warming_up = order[4:36]
    assert after_warming_up == [0] * 4 + [1] * 8 + [0] * 8 + [1] * 8 + [0] * 4


def test_it_is_no_go_for_an_engine_without_memory(carry_out: Carry, stepped: Any) -> None:
    class Forgetful(stepped):  # type: ignore[misc]
        def open(self, **options: Any) -> Any:
            return super().open(**{**options, "prefix_caching": False})

    execution = carry_out(engines=Forgetful)
    assert execution.decision is Decision.NO_GO
    assert {"C3", "C4"} <= set(failed(execution))


def test_it_is_no_go_when_memory_changes_what_is_said(carry_out: Carry) -> None:
    opened: list[FakeClock] = []

    def model(clock: FakeClock) -> WorkingModel:
        opened.append(clock)
        made = working_model(clock)
        if len(opened) % 2:
            made._choose = lambda token_ids: fake_next_token(token_ids[-50:])
        return made

    execution = carry_out(model)
    assert execution.decision is Decision.NO_GO
    assert "C1" in failed(execution)


def test_it_asks_the_reference_at_the_end_of_each_phase(carry_out: Carry) -> None:
    asked = [row.cells["Phase"] for row in carry_out().rows if row.cells.get("Agent") and row.cells["mlx_lm (s)"] != ""]
    assert asked == ["1 statements", "2 records", "3 hearing", "4 drafts", "5 findings", "cross queries"]
