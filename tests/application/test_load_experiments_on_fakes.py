"""EXP-012 and EXP-013 on fakes: GO of what is right, and NO-GO of what they are there to catch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from semantic.adapters.fakes import FakeModel, fake_next_token
from semantic.adapters.fakes.experiments import FakeEngines, FakeMemoryProbe
from semantic.application.residency import Residency
from semantic.domain.experiments import Decision, Execution

INTERLEAVING: dict[str, Any] = {
    "sequences": 3,
    "running_prompt_tokens": 8,
    "running_new_tokens": 40,
    "newcomer_tokens": 400,
    "chunk_tokens": 64,
}
BUDGET: dict[str, Any] = {
    "memory": "20480B",  # ten blocks of the fake model
    "loads": (1, 4),
    "background_prompt_tokens": 20,
    "background_new_tokens": 12,
    "interactive_prompt_tokens": 10,
    "interactive_new_tokens": 4,
}


def carried_out(bench: Any, experiment_id: str, parameters: dict[str, Any], **parts: Any) -> Execution:
    parts.setdefault("engine_factory", FakeEngines())
    execution: Execution = bench(**parts).runner.run(experiment_id, "quick", parameters)
    return execution


def failed(execution: Execution) -> list[str]:
    return [result.criterion_id for result in execution.criteria if not result.passed]


def test_exp_012_notes_gaps_and_holds_everyone_against_itself_alone(bench: Any) -> None:
    execution = carried_out(bench, "EXP-012", INTERLEAVING)
    assert not [run.error for run in execution.runs if run.error]
    measured = {result.criterion_id: result for result in execution.criteria}
    assert measured["C4"].measured == 0
    assert measured["C1"].measured is not None


def test_exp_012_is_no_go_when_how_a_prompt_is_cut_changes_what_is_said(bench: Any) -> None:
    class CutDependent(FakeModel):
        chunks = 0

        def prefill(self, cache: Any, token_ids: Sequence[int]) -> None:
            super().prefill(cache, token_ids)
            self.chunks += 1

    def model() -> FakeModel:
        made = CutDependent()
        made._choose = lambda token_ids: (fake_next_token(token_ids) + made.chunks) % 256 + 1
        return made

    execution = carried_out(bench, "EXP-012", INTERLEAVING, engine_factory=FakeEngines(model=model))
    assert execution.decision is Decision.NO_GO
    assert "C4" in failed(execution)


def test_exp_013_is_go_where_the_budget_holds_and_work_is_taken_up_again(bench: Any) -> None:
    execution = carried_out(bench, "EXP-013", BUDGET)
    assert not [run.error for run in execution.runs if run.error]
    assert [name for name in failed(execution) if name != "N1"] == []


def test_exp_013_is_no_go_when_more_is_held_than_the_budget(bench: Any) -> None:
    execution = carried_out(bench, "EXP-013", BUDGET, memory_probe=FakeMemoryProbe(growth=100_000))
    assert execution.decision is Decision.NO_GO
    assert {"C1", "C2"} <= set(failed(execution))


def test_exp_013_is_no_go_when_nobody_ever_gives_way(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Residency, "_make_room", lambda self, below=None: False)
    assert "C5" in failed(carried_out(bench, "EXP-013", BUDGET))


def test_exp_013_is_no_go_when_a_reply_depends_on_the_load(bench: Any) -> None:
    class Crowded(FakeModel):
        def decode(self, rows: Sequence[Any]) -> Any:
            drawn = super().decode(rows)
            self._choose = partial(_shifted, by=len(rows) > 3)
            return drawn

    execution = carried_out(bench, "EXP-013", BUDGET, engine_factory=FakeEngines(model=Crowded))
    assert execution.decision is Decision.NO_GO
    assert "C4" in failed(execution)


def _shifted(token_ids: Sequence[int], *, by: bool) -> int:
    return (fake_next_token(token_ids) + by) % 256 + 1 if by else fake_next_token(token_ids)
