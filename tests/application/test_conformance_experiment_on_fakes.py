"""EXP-011 on fakes: GO for an engine that is right, NO-GO for each thing that it is there to catch."""

from collections.abc import Sequence
from typing import Any

import pytest

from semantic.adapters.fakes import FakeModel, fake_next_token
from semantic.domain.experiments import Decision, Execution

TINY = {
    "max_new_tokens": 8,
    "prompt_tokens": (6, 20, 40),
    "remembered_tokens": 40,
    "turn_tokens": 9,
    "join_every": 1,
}


def carried_out(bench: Any, stepped: Any, model: Any) -> Execution:
    execution: Execution = bench(engine_factory=stepped(model)).runner.run("EXP-011", "quick", TINY)
    return execution


def failed(execution: Execution) -> list[str]:
    return [result.criterion_id for result in execution.criteria if not result.passed]


def test_the_right_engine_is_go_and_says_which_way_the_model_runs(bench: Any) -> None:
    execution: Execution = bench().runner.run("EXP-011", "quick", TINY)
    assert not [run.error for run in execution.runs if run.error]
    assert execution.decision is Decision.GO, execution.rationale
    assert [row.cells["Scenario"] for row in execution.rows] == (
        ["alone"] * 3
        + ["at once"] * 3
        + ["joining and leaving"] * 3
        + ["continued"]
        + ["forked"] * 2
        + ["after a restart"] * 2
    )
    assert all(row.cells["Cached tokens"] for row in execution.rows[-2:])
    assert "runs ragged over paged caches" in execution.observations[0].text


@pytest.mark.parametrize("longer_than", [30, 45])
def test_an_engine_that_is_wrong_in_longer_contexts_is_no_go(bench: Any, stepped: Any, longer_than: int) -> None:
    def choose(token_ids: Sequence[int]) -> int:
        right = fake_next_token(token_ids)
        return right % 256 + 1 if len(token_ids) > longer_than else right

    execution = carried_out(bench, stepped, lambda _: FakeModel(prefill_step_size=4096, choose=choose))
    assert execution.decision is Decision.NO_GO
    assert "C1" in failed(execution)
