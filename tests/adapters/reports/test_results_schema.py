"""The schema in the documentation is that of the files."""

import json
from pathlib import Path

import pytest
from attrs import evolve
from jsonschema import Draft202012Validator

from semantic.adapters.fakes.experiments import example_execution
from semantic.adapters.reports.json_store import JsonResultsStore
from semantic.adapters.reports.results_schema import results_schema
from semantic.domain.experiments import DataRow, Estimate, ResultsDocument, Samples, summarise

REPOSITORY = Path(__file__).parents[3]


def complaints(content: object) -> list[str]:
    return [error.message for error in Draft202012Validator(results_schema()).iter_errors(content)]


def test_the_schema_in_the_documentation_is_fresh() -> None:
    written = json.loads((REPOSITORY / "docs" / "results-schema.json").read_text())
    assert written == results_schema(), "python -m semantic.adapters.reports.results_schema > docs/results-schema.json"
    Draft202012Validator.check_schema(written)


def test_what_is_saved_follows_it_numbers_that_are_none_included(tmp_path: Path) -> None:
    taken = Samples(
        figure="f", name="n", unit="s", values=(1.0, float("nan")), estimate=Estimate(1, 0, 2), confidence=0.5, seed=1
    )
    execution = example_execution(rows=(DataRow(1, {"x": float("inf")}),), samples=(taken,))
    path = JsonResultsStore(tmp_path).save(ResultsDocument(latest=execution, history=(summarise(execution),)))
    assert complaints(json.loads(Path(path).read_text())) == []


def test_what_does_not_follow_it_is_found(tmp_path: Path) -> None:
    path = JsonResultsStore(tmp_path).save(ResultsDocument(latest=evolve(example_execution(), total_s=1.0)))
    content = json.loads(Path(path).read_text())
    content["latest"]["decision"] = "PERHAPS"
    del content["latest"]["criteria"]
    assert sorted(complaints(content)) == [
        "'PERHAPS' is not one of ['GO', 'NO-GO', 'CONDITIONAL GO']",
        "'criteria' is a required property",
    ]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "experiments" / "data").glob("*_results.json")), ids=str)
def test_the_recorded_results_follow_it_or_are_of_schema_1(path: Path) -> None:
    content = json.loads(path.read_text())
    assert content["version"] == 1 or complaints(content) == []
