"""The code in the how-tos runs, block after block, as a reader would paste it."""

from pathlib import Path
from typing import Any

import pytest
from blocks import blocks_of, run

HOW_TOS = [
    path
    for path in sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))
    if path.stem != "write-an-experiment"  # its code is an experiment: see test_experiment_how_to.py
]


@pytest.mark.parametrize("how_to", HOW_TOS, ids=lambda path: path.stem)
def test_a_how_to_runs_on_a_fake_model(how_to: Path, folder: Path, on_fakes: list[Any]) -> None:
    assert run(how_to, blocks_of(how_to)) > 0
    assert on_fakes


@pytest.mark.model
@pytest.mark.parametrize("how_to", HOW_TOS, ids=lambda path: path.stem)
def test_a_how_to_runs_on_the_default_model(how_to: Path, folder: Path) -> None:
    assert run(how_to, blocks_of(how_to)) > 0
