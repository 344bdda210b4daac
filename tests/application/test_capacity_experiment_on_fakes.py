"""EXP-010 on engines that only count: GO where the bits are kept to, NO-GO where room is lost or the budget is not."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, field

from semantic.domain.experiments import Decision, Execution

TOKENS, VALUES = 500, 100  # of a context, and in a token
EXACT = TOKENS * VALUES * 4
BITS = {"exact": 32.0, "8": 8.5, "4": 4.5}


@define
class CountingEngine:
    """Keeps as many contexts as its share of the budget holds at so many bits, the last used ones."""

    bits: float
    room: float
    beyond: int = 0
    kept: list[tuple[int, ...]] = field(factory=list)

    @property
    def profile(self) -> Any:
        return SimpleNamespace(cache_spec=SimpleNamespace(bytes_per_token=VALUES * 4))

    @property
    def each(self) -> float:
        return EXACT * self.bits / 32

    def generate(self, prompt: list[int], *, max_tokens: int) -> Any:
        known = tuple(prompt) in self.kept
        if known:
            self.kept.remove(tuple(prompt))
        self.kept.append(tuple(prompt))
        self.kept = self.kept[-int(self.room / self.each) :]
        return SimpleNamespace(usage=SimpleNamespace(cached_tokens=len(prompt) - 1 if known else 0))

    def stats(self) -> Any:
        held = int(len(self.kept) * self.each) + self.beyond
        return SimpleNamespace(cache_bytes=held, pool_total_blocks=20, block_bytes=EXACT)

    def flush(self) -> None:
        return

    def __enter__(self) -> "CountingEngine":
        return self

    def __exit__(self, *_: object) -> None:
        return


@define
class CountingEngines:
    """Opens them; ``lost`` is the share of the budget that is wasted, ``beyond`` what is held outside it."""

    lost: float = 0.0
    beyond: int = 0

    def open(self, *, memory: str, kv_at_rest: str) -> CountingEngine:
        return CountingEngine(BITS[kv_at_rest], float(memory) * (1 - self.lost), self.beyond)


@pytest.fixture
def carry_out(bench: Callable[..., Any]) -> Callable[[CountingEngines], Execution]:
    def run(engines: CountingEngines) -> Execution:
        parameters = {"context_tokens": TOKENS, "budget": str(EXACT * 20)}
        execution: Execution = bench(engine_factory=engines).runner.run("EXP-010", "quick", parameters)
        return execution

    return run


def failed(execution: Execution) -> list[str]:
    return [result.criterion_id for result in execution.criteria if not result.passed]


def test_contexts_that_take_their_bits_are_go(carry_out: Callable[[CountingEngines], Execution]) -> None:
    assert carry_out(CountingEngines()).decision is Decision.GO


def test_a_tenth_of_the_budget_lost_is_no_go(carry_out: Callable[[CountingEngines], Execution]) -> None:
    execution = carry_out(CountingEngines(lost=0.1))
    assert execution.decision is Decision.NO_GO
    assert failed(execution) == ["C1", "C2"]


def test_memory_beyond_the_budget_is_no_go(carry_out: Callable[[CountingEngines], Execution]) -> None:
    assert failed(carry_out(CountingEngines(beyond=EXACT))) == ["C4"]
