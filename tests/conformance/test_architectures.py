"""Whatever mlx_lm's models keep of a context, the engine says what mlx_lm says.

A tiny model for each composition of caches in mlx_lm's zoo. Tokens and log-probabilities are held against
``mlx_lm.generate_step`` (:mod:`conformance.harness`), and a table in the docs against what came out.
"""

from collections.abc import Callable

import pytest
from conformance.examine import Outcome, examine
from conformance.table import TABLE, rows_of, table_of
from tiny_zoo import FAMILIES, ZOO

pytestmark = [pytest.mark.mlx, pytest.mark.zoo]

SCENARIOS = ("together", "remembered")

OutcomeOf = Callable[[str], Outcome]


@pytest.fixture(scope="session")
def outcome_of() -> OutcomeOf:
    """A model's outcome; a whole family is examined when the first of its models is asked for."""
    outcomes: dict[str, Outcome] = {}
    examined: set[str] = set()

    def outcome_of(name: str) -> Outcome:
        family = next(family for family, models in FAMILIES.items() if name in models)
        if family not in examined:
            examined.add(family)
            outcomes.update(examine(list(FAMILIES[family])))
        assert name in outcomes, f"the process that examined the {family} family did not get as far as {name}"
        return outcomes[name]

    return outcome_of


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", ZOO)
def test_tokens_and_log_probabilities_are_mlx_lms(name: str, scenario: str, outcome_of: OutcomeOf) -> None:
    assert outcome_of(name).scenarios[scenario] is None


def test_the_table_in_the_docs_says_how_each_model_runs(outcome_of: OutcomeOf) -> None:
    """If it does not any more: ``make architectures`` writes it anew."""
    assert rows_of(TABLE.read_text(encoding="utf-8")) == rows_of(table_of([outcome_of(name) for name in ZOO]))
