"""The README's example for event loops runs as it stands."""

from pathlib import Path
from typing import Any

from blocks import blocks_of, run

README = Path(__file__).parents[2] / "README.md"


def test_the_example_for_event_loops_runs_on_a_fake_model(folder: Path, on_fakes: list[Any]) -> None:
    assert run(README, [block for block in blocks_of(README) if "semantic.aopen" in block]) == 1
    assert [engine.stats().finished_requests for engine in on_fakes] == [3]
