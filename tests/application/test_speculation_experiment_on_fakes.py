"""EXP-015 on fakes: GO of an engine that speculates rightly, NO-GO of one that takes wrong drafts or gains nothing."""

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve

from semantic.adapters.fakes import FakeClock, FakeModel, FakeTokenizer, fake_next_token
from semantic.adapters.fakes.reference import FakeReference
from semantic.application.ports.model import DecodeRow, Drawn
from semantic.domain.experiments import Decision, Execution

QUICK = {
    "prompts": ("short", "chat", "excerpt"),
    "max_new_tokens": 12,
    "others": ("letter",),
    "other_tokens": 40,
    "pairs": 2,
    "other_pairs": 2,
}
MARK = FakeTokenizer().encode("copied word for word")


def copies_where_it_is_asked_to(token_ids: Sequence[int]) -> int:
    """Behind the mark it says what followed the last four tokens before the mark; elsewhere it is the fake's rule."""
    tokens = bytes(token - 1 for token in token_ids)
    mark = tokens.find(bytes(token - 1 for token in MARK))
    found = tokens[:mark].find(tokens[-4:]) if mark >= 0 else -1
    return fake_next_token(token_ids) if found < 0 else tokens[found + 4] + 1


class TimedModel(FakeModel):
    """Takes 10 ms for a step, and ``per_draft_s`` for each drafted token."""

    per_draft_s = 0.0002

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(choose=copies_where_it_is_asked_to, prefill_step_size=4096)
        self.clock = clock

    def decode(self, rows: Sequence[DecodeRow]) -> list[tuple[Drawn, ...]]:
        self.clock.advance(0.01 + self.per_draft_s * sum(len(row.draft) for row in rows))
        return super().decode(rows)


class Believing(TimedModel):
    """Takes the first token of every draft as right."""

    def decode(self, rows: Sequence[DecodeRow]) -> list[tuple[Drawn, ...]]:
        drawn = super().decode([evolve(row, draft=()) for row in rows])
        return [(Drawn(row.draft[0]),) if row.draft else own for row, own in zip(rows, drawn, strict=True)]


class Dear(TimedModel):
    """Takes as long for a drafted token as for a step."""

    per_draft_s = 0.01


def carried_out(bench: Any, stepped: Any, model: type[TimedModel]) -> Execution:
    clock = FakeClock(tick=1e-6)
    engines = stepped(lambda lane: model(clock), clock=clock)
    reference = lambda: FakeReference(choose=copies_where_it_is_asked_to)  # noqa: E731
    made = bench(engine_factory=engines, clock=clock, reference=reference)
    execution: Execution = made.runner.run("EXP-015", "quick", QUICK)
    assert not [run.error for run in execution.runs if run.error]
    return execution


def failed(execution: Execution) -> set[str]:
    return {result.criterion_id for result in execution.criteria if not result.passed}


def test_an_engine_that_speculates_rightly_is_go(bench: Any, stepped: Any) -> None:
    execution = carried_out(bench, stepped, TimedModel)
    assert execution.decision is Decision.GO, execution.rationale
    assert not failed(execution)


@pytest.mark.parametrize(("model", "expected"), [(Believing, {"C3"}), (Dear, {"C4"})])
def test_one_that_is_wrong_or_gains_nothing_is_no_go(
    bench: Any, stepped: Any, model: type[TimedModel], expected: set[str]
) -> None:
    execution = carried_out(bench, stepped, model)
    assert execution.decision is Decision.NO_GO
    assert expected <= failed(execution)
