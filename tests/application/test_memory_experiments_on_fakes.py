"""EXP-005 to EXP-008 on fakes: they say GO of what is right, and NO-GO of each thing that they are there to catch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from driving import shifted

from semantic.adapters.fakes import FakeClock, fake_next_token
from semantic.adapters.fakes.filesystem import _Folder, _Writing
from semantic.adapters.fakes.processes import FakeProcesses, WorkingModel, changed
from semantic.adapters.fakes.store import MemoryStore
from semantic.adapters.fakes.stores import FakeStores
from semantic.adapters.storage.experiment_stores import ExperimentStores
from semantic.application.joining import Joining
from semantic.application.ports.engine_process import Change
from semantic.domain.experiments import Decision, Execution

TINY: dict[str, dict[str, Any]] = {
    "EXP-005": {"max_new_tokens": 5, "kills": 6, "lengths": (64, 256)},
    "EXP-006": {"system_tokens": 400, "prefixes": (60, 150), "max_new_tokens": 40},
    "EXP-008": {"pairs": 4, "paired_tokens": 150, "prompt_tokens": 150},
    "EXP-007": {
        "operations": 190,
        "block_bytes": 64,
        "outcomes": 1,
        "sigkills": 20,
        "sigkill_block_bytes": 64,
        "many_blocks": 80,
    },
}


Carry = Callable[..., Execution]


@pytest.fixture
def carry_out(bench: Any, stepped: Any) -> Carry:
    """Runs a tiny version of an experiment; ``model`` makes the models of its engines, ``engine`` is their class."""

    def run(experiment_id: str, smaller: dict[str, Any] | None = None, **parts: Any) -> Execution:
        stores = parts.setdefault("stores", FakeStores())
        clock = FakeClock(tick=0.001)
        make = parts.pop("model", partial(WorkingModel, prefill_step_size=64, block_tokens=64))
        engines = stepped(lambda lane: make(clock), stores, clock, **_given(parts, "engine"))
        parameters = {**TINY[experiment_id], **(smaller or {})}
        execution: Execution = bench(engine_factory=engines, **parts).runner.run(experiment_id, "quick", parameters)
        return execution

    return run


def _given(parts: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: parts.pop(name)} if name in parts else {}


def failed(execution: Execution) -> list[str]:
    return [result.criterion_id for result in execution.criteria if not result.passed]


@pytest.mark.parametrize("experiment_id", ["EXP-005", "EXP-006", "EXP-007", "EXP-008"])
def test_what_is_right_is_go(carry_out: Carry, experiment_id: str) -> None:
    execution = carry_out(experiment_id)
    assert not [run.error for run in execution.runs if run.error]
    assert execution.decision is Decision.GO, execution.rationale


# -- EXP-007 -----------------------------------------------------------------------------------------


class LosesTurns(MemoryStore):
    """Commits an agent's first turn, and none after it."""

    def save_agent(self, record: Any, blocks: Any) -> None:
        if record.turns == 1:
            super().save_agent(record, blocks)


class DeletesNothing(MemoryStore):
    def delete(self, hashes: Any) -> None:
        pass


class ConfusesBlocks(MemoryStore):
    """Serves every block with the first one's arrays."""

    def load(self, block_hash: Any, place: Any) -> None:
        super().load(next(iter(self._blocks)), place)


@pytest.mark.parametrize(
    ("store", "criteria"), [(LosesTurns, ["C4"]), (DeletesNothing, ["C3", "C5"]), (ConfusesBlocks, ["C2", "C3"])]
)
def test_exp_007_is_no_go_for_a_store_that(carry_out: Carry, store: type[MemoryStore], criteria: list[str]) -> None:
    execution = carry_out("EXP-007", stores=FakeStores(store))
    assert execution.decision is Decision.NO_GO
    assert set(criteria) <= set(failed(execution))


SMALL = {"operations": 3, "block_bytes": 500, "outcomes": 2, "sigkills": 2, "sigkill_block_bytes": 50_000}


def test_exp_007_looks_at_the_real_store_too(carry_out: Carry, tmp_path: Path) -> None:
    execution = carry_out("EXP-007", SMALL, stores=ExperimentStores(tmp_path))
    assert not [run.error for run in execution.runs if run.error]
    assert failed(execution) == ["C1"], execution.rationale


@pytest.mark.parametrize("forgetful", [_Writing, _Folder])
def test_exp_007_is_no_go_where_a_sync_is_missing(
    carry_out: Carry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: type
) -> None:
    monkeypatch.setattr(forgetful, "sync", lambda self: None)
    smaller = {**SMALL, "sigkills": 0}
    execution = carry_out("EXP-007", smaller, stores=ExperimentStores(tmp_path))
    assert {"C2", "C4"} & set(failed(execution))


# -- EXP-005 -----------------------------------------------------------------------------------------


class ForgetsBlocks(MemoryStore):
    def blocks(self, context: str) -> list[Any]:
        return []


def test_exp_005_kills_before_and_after_a_turn_is_durable(carry_out: Carry) -> None:
    stores = FakeStores()
    processes = FakeProcesses(stores, writes_per_s=20_000)
    execution = carry_out("EXP-005", stores=stores, engine_processes=processes)
    stands = [line for run in execution.runs for line in run.lines if run.label.startswith("SIGKILL")]
    assert any(line.endswith("stands at turn 1") for line in stands), stands
    assert any(line.endswith("stands at turn 2") for line in stands), [run.lines for run in execution.runs]


@pytest.mark.parametrize(("store", "criteria"), [(LosesTurns, ["C3"]), (ForgetsBlocks, ["C4", "C6"])])
def test_exp_005_is_no_go_for_a_store_that(carry_out: Carry, store: type[MemoryStore], criteria: list[str]) -> None:
    execution = carry_out("EXP-005", stores=FakeStores(store))
    assert execution.decision is Decision.NO_GO
    assert set(criteria) <= set(failed(execution))


def test_exp_005_is_no_go_when_a_restarted_engine_says_something_else(carry_out: Carry) -> None:
    stores, clocks = FakeStores(), []

    def model(clock: Any) -> WorkingModel:
        clocks.append(clock)
        made = WorkingModel(clock)
        if len(clocks) == 3:  # the uninterrupted run, the one that ends normally, the one that goes on
            made._choose = lambda token_ids: fake_next_token(token_ids) % 256 + 1
        return made

    execution = carry_out("EXP-005", stores=stores, engine_processes=FakeProcesses(stores, model))
    assert execution.decision is Decision.NO_GO
    assert "C1" in failed(execution)


# -- EXP-006 -----------------------------------------------------------------------------------------


def test_exp_006_is_no_go_when_every_agent_keeps_its_own_copy(carry_out: Carry, stepped: Any) -> None:
    class Apart(stepped().engine):  # type: ignore[misc]
        def agent(self, name: str, *, system: str | None = None, namespace: str = "default") -> Any:
            return super().agent(name, system=system, namespace=name)

    execution = carry_out("EXP-006", engine=Apart)
    assert execution.decision is Decision.NO_GO
    assert {"C1", "C2", "C3"} <= set(failed(execution))


def test_exp_006_is_no_go_when_simultaneous_requests_do_not_wait_for_each_other(
    carry_out: Carry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Joining, "worth_waiting_for", lambda *_: None)
    assert {"C1", "C4"} <= set(failed(carry_out("EXP-006")))


def test_exp_006_is_no_go_when_sharing_changes_what_is_said(carry_out: Carry) -> None:
    class Leaky(WorkingModel):
        def decode(self, rows: Any) -> Any:
            drawn = super().decode(rows)
            return [shifted(draws) for draws in drawn] if len(rows) == 10 else drawn

    execution = carry_out("EXP-006", model=partial(Leaky, prefill_step_size=64, block_tokens=64))
    assert execution.decision is Decision.NO_GO
    assert "C5" in failed(execution)


# -- EXP-008 -----------------------------------------------------------------------------------------


def test_exp_008_is_no_go_for_an_engine_that_ignores_namespaces(carry_out: Carry, stepped: Any) -> None:
    class Open(stepped().engine):  # type: ignore[misc]
        def submit(self, prompt: Any, *, max_tokens: int, namespace: str = "default") -> Any:
            return super().submit(prompt, max_tokens=max_tokens)

    execution = carry_out("EXP-008", engine=Open)
    assert execution.decision is Decision.NO_GO
    assert {"C1", "C3", "C5"} <= set(failed(execution))


@pytest.mark.parametrize("ignored", [Change.WEIGHT, Change.TEMPLATE, Change.COMPUTE_DTYPE, Change.LAYOUT, Change.LANE])
def test_exp_008_is_no_go_where_a_change_of_the_model_is_ignored(carry_out: Carry, ignored: Change) -> None:
    stores = FakeStores()
    processes = FakeProcesses(
        stores, change=lambda model, change: model if change is ignored else changed(model, change)
    )
    execution = carry_out("EXP-008", stores=stores, engine_processes=processes)
    assert execution.decision is Decision.NO_GO
    assert failed(execution) == ["C2", "C3"]


def test_exp_008_is_no_go_where_the_time_tells_what_another_namespace_has_cached(
    carry_out: Carry, stepped: Any
) -> None:
    seen: set[tuple[int, ...]] = set()

    class Telling(stepped().engine):  # type: ignore[misc]
        def submit(self, prompt: Any, *, max_tokens: int, namespace: str = "default") -> Any:
            request = super().submit(prompt, max_tokens=max_tokens, namespace=namespace)
            if tuple(prompt) in seen:
                self.batch.clock.advance(-0.03)
            seen.add(tuple(prompt))
            return request

    execution = carry_out("EXP-008", engine=Telling)
    assert execution.decision is Decision.NO_GO
    assert failed(execution) == ["C5", "N1"]


def test_exp_008_says_nothing_where_the_controls_find_nothing(carry_out: Carry) -> None:
    assert "C4" in failed(carry_out("EXP-008", stores=FakeStores(ForgetsBlocks)))
