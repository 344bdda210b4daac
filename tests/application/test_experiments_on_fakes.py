"""EXP-001 to EXP-004 on fakes: they say GO of what is right, and NO-GO of each thing that they are there to catch."""

from collections.abc import Sequence
from typing import Any

import pytest
from driving import shifted

from semantic.adapters.fakes import FakeModel as AnyFakeModel
from semantic.adapters.fakes import fake_next_token
from semantic.adapters.fakes.experiments import FakeEngines, FakeMemoryProbe
from semantic.adapters.fakes.reference import FakeReference
from semantic.domain.experiments import TIE_BOUND_NATS, Decision, Execution

TINY: dict[str, dict[str, Any]] = {
    "EXP-001": {"prompts": ("short", "chat", "japanese"), "max_new_tokens": 6},
    "EXP-002": {"prompts": ("short", "chat"), "max_new_tokens": 4, "pairs": 2},
    "EXP-003": {"prompts": ("short", "chat"), "max_new_tokens": 6, "runs": 4, "warm_up_runs": 2},
    "EXP-004": {"max_new_tokens": 16, "batch_sizes": (2, 4), "bit_batch_sizes": (2,), "join_every": 2},
}


class FakeModel(AnyFakeModel):
    """Prefills every prompt in one step, so that sequences soon decode beside each other."""

    def __init__(self, **how: Any) -> None:
        super().__init__(prefill_step_size=4096, **how)


SHORT_PROMPT = "The quick brown fox"


def carried_out(bench: Any, experiment_id: str, **parts: Any) -> Execution:
    execution: Execution = bench(**parts).runner.run(experiment_id, "quick", TINY[experiment_id])
    return execution


def failed(execution: Execution) -> list[str]:
    return [result.criterion_id for result in execution.criteria if not result.passed]


def wrong_from(position: int, prompt: str = SHORT_PROMPT, token: int | None = None) -> Any:
    """The fake's rule, but for one prompt another token at one position of the reply."""

    def choose(token_ids: Sequence[int]) -> int:
        right = fake_next_token(token_ids)
        head = [byte + 1 for byte in prompt.encode()]
        if list(token_ids[: len(head)]) == head and len(token_ids) == len(head) + position:
            return token if token is not None else right % 256 + 1
        return right

    return choose


@pytest.mark.parametrize("experiment_id", ["EXP-001", "EXP-003", "EXP-004"])
def test_the_right_engine_is_go(bench: Any, experiment_id: str) -> None:
    execution = carried_out(bench, experiment_id)
    assert execution.decision is Decision.GO, execution.rationale
    assert not [run.error for run in execution.runs if run.error]


@pytest.mark.parametrize("experiment_id", ["EXP-001", "EXP-003"])
def test_the_right_engine_is_go_behind_its_own_thread_too(bench: Any, experiment_id: str) -> None:
    assert carried_out(bench, experiment_id, engine_factory=FakeEngines()).decision is Decision.GO


def test_exp_002_pairs_in_alternating_order_and_judges_the_median(bench: Any) -> None:
    execution = carried_out(bench, "EXP-002")
    assert [row.cells["First"] for row in execution.rows] == ["engine", "reference", "reference", "engine"]
    assert execution.decision is Decision.GO, execution.rationale


def test_exp_002_is_no_go_for_an_engine_slower_than_the_reference(bench: Any) -> None:
    execution = carried_out(bench, "EXP-002", reference=lambda: FakeReference(seconds_per_token=1e-6))
    assert execution.decision is Decision.NO_GO
    assert failed(execution) == ["C1", "N1", "N2"]


def test_exp_001_is_no_go_for_one_wrong_token_in_the_bit_lane(bench: Any, stepped: Any) -> None:
    model = {"bit": FakeModel(choose=wrong_from(3)), "token": FakeModel()}
    execution = carried_out(bench, "EXP-001", engine_factory=stepped(model.__getitem__))
    assert execution.decision is Decision.NO_GO
    assert failed(execution) == ["C1"]
    assert [run.label for run in execution.runs if run.failure] == ["bit lane, short"]


def test_exp_001_is_no_go_for_a_token_that_is_not_the_reference_s_second(bench: Any, stepped: Any) -> None:
    model = {"bit": FakeModel(), "token": FakeModel(choose=wrong_from(3, token=250))}
    execution = carried_out(bench, "EXP-001", engine_factory=stepped(model.__getitem__))
    assert failed(execution) == ["C2", "N1"]
    assert execution.decision is Decision.NO_GO


def test_exp_001_is_conditional_for_a_tie_in_the_token_lane_and_lists_it(bench: Any, stepped: Any) -> None:
    model = {"bit": FakeModel(), "token": FakeModel(choose=wrong_from(3))}
    execution = carried_out(
        bench,
        "EXP-001",
        engine_factory=stepped(model.__getitem__),
        reference=lambda: FakeReference(gap=TIE_BOUND_NATS / 2),
    )
    assert execution.decision is Decision.CONDITIONAL_GO, execution.rationale
    assert execution.caveats[0].startswith("short: tie at token 3: ")
    assert failed(execution) == ["N1"]


def test_exp_001_is_no_go_for_more_ties_than_are_allowed(bench: Any, stepped: Any) -> None:
    chat = "<system>You are a careful assistant. Answer in one short paragraph.<user>Why is the sky blue?<assistant>"
    twice = wrong_from(3)
    chat_too = wrong_from(2, chat)

    def choose(token_ids: Sequence[int]) -> int:
        token: int = twice(token_ids)
        return token if token != fake_next_token(token_ids) else int(chat_too(token_ids))

    model = {"bit": FakeModel(), "token": FakeModel(choose=choose)}
    execution = carried_out(
        bench,
        "EXP-001",
        engine_factory=stepped(model.__getitem__),
        reference=lambda: FakeReference(gap=TIE_BOUND_NATS / 2),
    )
    assert failed(execution) == ["C3", "N1"]
    assert execution.decision is Decision.NO_GO


def test_exp_001_stops_at_three_failures_in_a_row_and_still_measures(bench: Any, stepped: Any) -> None:
    wrong = FakeModel(choose=lambda token_ids: 250)
    execution = carried_out(bench, "EXP-001", engine_factory=stepped(lambda lane: wrong))
    assert execution.stopped_early.startswith("critical trigger")
    assert [result.measured for result in execution.criteria[:2]] == [0.0, 0.0]
    assert "C4" in failed(execution)


def test_exp_003_is_no_go_when_memory_grows(bench: Any) -> None:
    execution = carried_out(bench, "EXP-003", memory_probe=FakeMemoryProbe(growth=20 * 2**20))  # read twice in a run
    assert failed(execution) == ["C2", "C3"]
    assert execution.criteria[1].measured == 80.0


def test_exp_003_is_no_go_when_blocks_stay_behind(bench: Any, stepped: Any, monkeypatch: Any) -> None:
    engines = stepped(lambda lane: FakeModel())
    held = []

    def leak(engine: Any) -> Any:
        real = engine.batch_generate

        def batch_generate(*args: Any, **kwargs: Any) -> Any:
            held.append(engine.batch.pool.allocate(1))
            return real(*args, **kwargs)

        engine.batch_generate = batch_generate
        return engine

    real_open = engines.open
    monkeypatch.setattr(type(engines), "open", lambda self, **how: leak(real_open(**how)))
    execution = carried_out(bench, "EXP-003", engine_factory=engines)
    assert "C1" in failed(execution)
    assert execution.decision is Decision.NO_GO


def test_exp_004_runs_sequences_beside_each_other_and_cancels_a_visitor(bench: Any) -> None:
    execution = carried_out(bench, "EXP-004")
    measured = {result.criterion_id: result for result in execution.criteria}
    assert measured["C4"].measured is not None
    assert measured["C4"].measured >= 2
    assert measured["C5"].evidence == "3 visitors cancelled mid-flight, of 3"


def test_exp_004_is_no_go_when_a_sequence_depends_on_its_batch(bench: Any, stepped: Any) -> None:
    class Leaky(FakeModel):
        def decode(self, rows: Any) -> Any:
            drawn = super().decode(rows)
            return [shifted(draws) for draws in drawn] if len(rows) == 3 else drawn

    execution = carried_out(bench, "EXP-004", engine_factory=stepped(lambda lane: Leaky()))
    assert "C1" in failed(execution)
    assert execution.decision is Decision.NO_GO


def test_exp_004_is_conditional_when_the_dependence_is_a_tie_of_the_reference(bench: Any, stepped: Any) -> None:
    class Wobbly(FakeModel):
        wobbled = False

        def decode(self, rows: Any) -> Any:
            drawn = super().decode(rows)
            if len(rows) == 4 and not self.wobbled:
                self.wobbled = True
                drawn[-1] = shifted(drawn[-1])
            return drawn

    model = {"bit": FakeModel(), "token": Wobbly()}
    execution = carried_out(
        bench,
        "EXP-004",
        engine_factory=stepped(model.__getitem__),
        reference=lambda: FakeReference(gap=TIE_BOUND_NATS / 2),
    )
    assert execution.decision is Decision.CONDITIONAL_GO, execution.rationale
    assert len(execution.caveats) == 1
