"""EXP-014 on fakes: GO of an engine that is whole, NO-GO of each thing that it is there to catch."""

from collections.abc import Callable
from typing import Any

import pytest
from driving import shifted

from semantic.adapters.fakes import FakeClock, FakeModel
from semantic.adapters.fakes.archive import MemoryArchive
from semantic.adapters.fakes.experiments import FakeMemoryProbe
from semantic.adapters.fakes.processes import FakeProcesses, WorkingModel
from semantic.adapters.fakes.store import MemoryStore
from semantic.adapters.fakes.stores import FakeStores
from semantic.application.block_transfer import BlockTransfer
from semantic.domain.experiments import Decision, Execution

SMALL = {"minutes": 0.3, "round_s": 6, "kill_weight": 0.5}

Carry = Callable[..., Execution]


@pytest.fixture
def carry_out(bench: Any, stepped: Any) -> Carry:
    """Runs a short version of it on engines with few blocks."""

    def run(
        store: type[MemoryStore] = MemoryStore,
        model: Callable[[FakeClock], FakeModel] = WorkingModel,
        smaller: dict[str, Any] | None = None,
        **parts: Any,
    ) -> Execution:
        clock, stores = FakeClock(tick=0.001), FakeStores(store)
        engines = stepped(lambda lane: model(clock), stores, clock, blocks=160)
        made = bench(
            engine_factory=engines, stores=stores, engine_processes=FakeProcesses(stores), clock=clock, **parts
        )
        execution: Execution = made.runner.run("EXP-014", "quick", {**SMALL, **(smaller or {})})
        return execution

    return run


def failed(execution: Execution) -> list[str]:
    return [result.criterion_id for result in execution.criteria if not result.passed and result.level == "must"]


def log_of(execution: Execution) -> str:
    return "\n".join(line for run in execution.runs for line in run.lines)


def test_an_engine_that_is_whole_is_go(carry_out: Carry) -> None:
    execution = carry_out()
    assert not [run.error for run in execution.runs if run.error]
    assert execution.decision is Decision.GO, f"{execution.rationale}\n{log_of(execution)}"


def test_each_round_has_a_seed_of_its_own_and_says_which(carry_out: Carry) -> None:
    labels = [run.label for run in carry_out(smaller={"seed": 7, "minutes": 0.05, "round_s": 1.5}).runs]
    assert labels[:2] == ["round 1, seed 7", "round 2, seed 8"]


def test_it_is_no_go_when_the_books_do_not_balance(carry_out: Carry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockTransfer, "release", lambda self, block_ids: None)
    execution = carry_out()
    assert "C1" in failed(execution)
    assert "held, and nothing is running" in log_of(execution)


class LosesTurns(MemoryStore):
    """Commits an agent's first turns, and none after it."""

    def save_agent(self, record: Any, blocks: Any) -> None:
        if record.turns <= 1:
            super().save_agent(record, blocks)


def test_it_is_no_go_for_a_store_that_loses_turns_and_the_log_has_what_led_to_it(carry_out: Carry) -> None:
    execution = carry_out(LosesTurns)
    assert "C3" in failed(execution)
    failure = next(run for run in execution.runs if run.failure)
    assert failure.failure.startswith(f"seed {failure.label.removeprefix('round 1, seed ')}, operation ")
    assert any(line.startswith("talk agent 1: ") for line in failure.lines)
    assert any(line.startswith(("restart", "kill")) for line in failure.lines)


class ForgetsNobody(MemoryStore):
    def forget_agent(self, namespace: str, name: str, erase: Any) -> None:
        pass


def test_it_is_no_go_when_what_is_forgotten_stays(carry_out: Carry) -> None:
    assert "C1" in failed(carry_out(ForgetsNobody))


def test_it_is_no_go_when_something_raises(carry_out: Carry, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(MemoryArchive, "write", refuse)
    execution = carry_out()
    assert "C6" in failed(execution)
    assert "the disk is gone" in log_of(execution)


def test_it_is_no_go_when_memory_changes_what_is_said(carry_out: Carry) -> None:
    def model(clock: FakeClock) -> WorkingModel:
        """Says something else where a context was taken up."""
        made, taken_up = WorkingModel(clock), []
        resume, decode = made.memory.resume, made.decode

        def resume_and_remember(cache: Any, block_ids: Any, num_tokens: int) -> None:
            taken_up.append(cache)
            resume(cache, block_ids, num_tokens)

        def decode_otherwise(rows: Any) -> Any:
            return [
                shifted(draws) if row.cache in taken_up else draws
                for row, draws in zip(rows, decode(rows), strict=True)
            ]

        made.memory.resume, made.decode = resume_and_remember, decode_otherwise  # type: ignore[method-assign]
        return made

    assert {"C4"} <= set(failed(carry_out(model=model)))


@pytest.mark.parametrize(
    ("probe", "criteria"),
    [(FakeMemoryProbe(growth=20 * 2**20), ["C7"]), (FakeMemoryProbe(leaks=9), ["C8", "C9"])],
)
def test_it_is_no_go_when_something_grows(carry_out: Carry, probe: FakeMemoryProbe, criteria: list[str]) -> None:
    execution = carry_out(memory_probe=probe, smaller={"minutes": 0.1, "round_s": 0.8, "kill_weight": 0})
    assert [name for name in failed(execution) if name != "C10"] == criteria, log_of(execution)
