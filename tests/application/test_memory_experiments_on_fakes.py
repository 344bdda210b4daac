"""EXP-005 to EXP-008 on fakes: they say GO of what is right, and NO-GO of each thing that they are there to catch."""

from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.fakes.filesystem import _Folder, _Writing
from semantic.adapters.fakes.store import MemoryStore
from semantic.adapters.fakes.stores import FakeStores
from semantic.adapters.storage.experiment_stores import ExperimentStores
from semantic.domain.experiments import Decision, Execution

TINY: dict[str, dict[str, Any]] = {
    "EXP-007": {
        "operations": 190,
        "block_bytes": 64,
        "outcomes": 1,
        "sigkills": 20,
        "sigkill_block_bytes": 64,
        "many_blocks": 80,
    },
}


def carried_out(bench: Any, experiment_id: str, *, smaller: dict[str, Any] | None = None, **parts: Any) -> Execution:
    parameters = {**TINY[experiment_id], **(smaller or {})}
    execution: Execution = bench(**parts).runner.run(experiment_id, "quick", parameters)
    return execution


def failed(execution: Execution) -> list[str]:
    return [result.criterion_id for result in execution.criteria if not result.passed]


@pytest.mark.parametrize("experiment_id", ["EXP-007"])
def test_what_is_right_is_go(bench: Any, experiment_id: str) -> None:
    execution = carried_out(bench, experiment_id)
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
def test_exp_007_is_no_go_for_a_store_that(bench: Any, store: type[MemoryStore], criteria: list[str]) -> None:
    execution = carried_out(bench, "EXP-007", stores=FakeStores(store))
    assert execution.decision is Decision.NO_GO
    assert set(criteria) <= set(failed(execution))


SMALL = {"operations": 3, "block_bytes": 500, "outcomes": 2, "sigkills": 2, "sigkill_block_bytes": 50_000}


def test_exp_007_looks_at_the_real_store_too(bench: Any, tmp_path: Path) -> None:
    execution = carried_out(bench, "EXP-007", smaller=SMALL, stores=ExperimentStores(tmp_path))
    assert not [run.error for run in execution.runs if run.error]
    assert failed(execution) == ["C1"], execution.rationale


@pytest.mark.parametrize("forgetful", [_Writing, _Folder])
def test_exp_007_is_no_go_where_a_sync_is_missing(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: type
) -> None:
    monkeypatch.setattr(forgetful, "sync", lambda self: None)
    smaller = {**SMALL, "sigkills": 0}
    execution = carried_out(bench, "EXP-007", smaller=smaller, stores=ExperimentStores(tmp_path))
    assert {"C2", "C4"} & set(failed(execution))
