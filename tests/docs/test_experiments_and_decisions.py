"""Decisions name the experiments that test them, and experiments name the decisions: both say the same."""

import re
from functools import cache
from pathlib import Path

import pytest

from semantic.adapters.reports.folder_catalogue import FolderCatalogue

REPOSITORY = Path(__file__).parents[2]
DECISIONS = sorted((REPOSITORY / "docs" / "adr").glob("[0-9][0-9][0-9][0-9]-*.md"))


@cache
def related() -> dict[str, list[str]]:
    """Decisions by experiment, as the declarations have them."""
    entries = FolderCatalogue(REPOSITORY / "experiments").entries()
    return {entry.id: list(entry.experiment.declaration.related.adrs) for entry in entries if entry.experiment}


def named_in(decision: Path) -> list[tuple[str, str]]:
    """Experiments of the line under the status, with where they are linked to."""
    head = decision.read_text().partition("\n## ")[0]
    line = re.search(r"^Experiments: (.+?)\.$", head, re.MULTILINE | re.DOTALL)
    return re.findall(r"\[(EXP-\d{3})\]\(([^)]+)\)", line.group(1)) if line else []


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.name[:4])
def test_a_decision_names_exactly_the_experiments_that_name_it(decision: Path) -> None:
    adr = f"ADR-{decision.name[:4]}"
    assert [id for id, _ in named_in(decision)] == [id for id, adrs in related().items() if adr in adrs], (
        f"correct the line 'Experiments:' of {decision.name}, or related.adrs of the experiments"
    )


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.name[:4])
def test_an_experiment_is_linked_to_its_report(decision: Path) -> None:
    linked = dict(named_in(decision))
    assert linked == {id: f"../../experiments/data/{id.lower().replace('-', '_')}_report.md" for id in linked}


def test_the_index_of_decisions_has_every_decision() -> None:
    index = (DECISIONS[0].parent / "README.md").read_text()
    assert re.findall(r"^\| \[\d{4}\]\((.+?)\)", index, re.MULTILINE) == [path.name for path in DECISIONS]
