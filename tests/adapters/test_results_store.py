"""Results on disk."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from semantic.adapters.atomic import write_atomically
from semantic.adapters.fakes.experiments import MemoryResultsStore, example_execution
from semantic.adapters.reports.json_store import JsonResultsStore
from semantic.application.ports.experiments import ResultsStore
from semantic.domain.errors import ResultsTooNewError, ResultsUnreadableError
from semantic.domain.experiments import (
    Artifact,
    ComparedSequence,
    DataRow,
    Decision,
    Estimate,
    MeasuredValue,
    Need,
    NeedStatus,
    Point,
    PrerequisiteCheck,
    ResultsDocument,
    RunLog,
    Samples,
    Series,
    TokenComparison,
    summarise,
)

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["memory", "json"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ResultsStore:
    return MemoryResultsStore() if request.param == "memory" else JsonResultsStore(tmp_path / "data")


def test_what_never_ran_has_no_results(store: ResultsStore) -> None:
    assert store.load("EXP-900") is None


def test_results_come_back_as_they_were_saved(store: ResultsStore) -> None:
    document = ResultsDocument(latest=example_execution(), history=(summarise(example_execution(Decision.NO_GO)),))
    store.save(document)
    assert store.load("EXP-900") == document


def test_saving_again_replaces(store: ResultsStore) -> None:
    store.save(ResultsDocument(latest=example_execution()))
    second = ResultsDocument(latest=example_execution(Decision.NO_GO))
    store.save(second)
    assert store.load("EXP-900") == second


def test_the_file_names_its_schema_and_version(tmp_path: Path) -> None:
    path = JsonResultsStore(tmp_path).save(ResultsDocument(latest=example_execution()))
    content = json.loads(Path(path).read_text())
    assert Path(path).name == "exp_900_results.json"
    assert (content["schema"], content["version"]) == ("semantic.experiment-results", 2)
    assert content["latest"]["decision"] == "GO"


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    store = JsonResultsStore(tmp_path)
    path = Path(store.save(ResultsDocument(latest=example_execution())))
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    with pytest.raises(ResultsTooNewError, match=r"results\.json:3 .*schema version 3 and this version reads up to 2"):
        store.load("EXP-900")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other"}', '{"schema": "semantic.experiment-results"}'])
def test_a_damaged_or_foreign_file_is_a_named_error_that_says_where(tmp_path: Path, text: str) -> None:
    store = JsonResultsStore(tmp_path)
    store.path("EXP-900").write_text(text)
    with pytest.raises(ResultsUnreadableError, match=r"exp_900_results\.json"):
        store.load("EXP-900")


def test_what_cannot_be_read_is_set_aside_and_never_overwritten(tmp_path: Path) -> None:
    store = JsonResultsStore(tmp_path)
    for text in ("<<<<<<< ours", "======="):
        store.path("EXP-900").write_text(text)
        store.set_aside("EXP-900")
    assert (tmp_path / "exp_900_results.json.unreadable").read_text() == "<<<<<<< ours"
    assert (tmp_path / "exp_900_results.json.unreadable-2").read_text() == "======="
    assert store.load("EXP-900") is None


def test_a_missing_field_is_a_named_error(tmp_path: Path) -> None:
    store = JsonResultsStore(tmp_path)
    path = Path(store.save(ResultsDocument(latest=example_execution())))
    content = json.loads(path.read_text())
    del content["latest"]["criteria"]
    path.write_text(json.dumps(content))
    with pytest.raises(ResultsUnreadableError, match="does not follow its schema"):
        store.load("EXP-900")


def test_everything_that_an_execution_can_hold_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    execution = example_execution(
        overrides={"pairs": 3},
        variant="pairs=3",
        resumed_at=(NOON,),
        runs=(
            RunLog(
                number=1,
                label="one",
                started_at=NOON,
                duration_s=1.5,
                lines=(),
                is_step=True,
                kept={"ratio": [0.5, 1]},
                caveats=("a tie",),
            ),
        ),
        prerequisites=(
            PrerequisiteCheck(
                kind=Need.DEPENDENCY, name="mlx_lm", wanted="0.30.4", found="0.32.2", status=NeedStatus.DIFFERS
            ),
        ),
        series=(
            Series(
                figure="Memory",
                name="resident",
                x_label="time",
                x_unit="s",
                y_label="memory",
                y_unit="MB",
                points=(Point(0.5, 100.0), Point(1.0, 101.0, 99.0, 103.0, run=1)),
            ),
        ),
        samples=(
            Samples(
                figure="Ratios",
                name="short",
                unit="",
                values=(0.5, 0.75),
                estimate=Estimate(0.625, 0.5, 0.75),
                confidence=0.95,
                seed=7,
                limit=1.2,
                criterion_id="C1",
            ),
        ),
        comparisons=(
            ComparedSequence(lane="bit", label="short", comparison=TokenComparison(4, 3, 9, 6, 1e-4, is_tie=True)),
        ),
        artifacts=(Artifact("script", "experiments/scripts/exp_900_x.py"),),
        script_sha256="ab12",
    )
    store = JsonResultsStore(tmp_path)
    store.save(ResultsDocument(latest=execution))
    assert store.load("EXP-900", "pairs=3") == ResultsDocument(latest=execution)


def test_a_file_of_schema_1_is_read_with_what_it_did_not_keep_left_open() -> None:
    store = JsonResultsStore(Path(__file__).parent / "results" / "schema_1")
    document = store.load("EXP-002")
    assert document is not None
    assert (document.latest.decision, document.latest.samples, document.latest.variant) == (Decision.GO, (), "")
    assert document.latest.criteria[0].limit is None
    past = document.history[0]
    assert (past.commit[:7], past.versions["mlx"], past.environment.platform) == ("9280348", "0.32.4", "not recorded")
    assert past.measured["C2"] == MeasuredValue(value=0.0)


def test_nan_and_infinity_do_not_make_invalid_json(tmp_path: Path) -> None:
    execution = example_execution(rows=(DataRow(1, {"Ratio": float("nan"), "Top": float("inf")}),))
    path = JsonResultsStore(tmp_path).save(ResultsDocument(latest=execution))
    assert json.loads(Path(path).read_text())["latest"]["rows"][0]["cells"] == {"Ratio": "nan", "Top": "inf"}


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.md"
    write_atomically(path, "old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
