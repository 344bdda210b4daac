"""Results and reports on disk."""

import itertools
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from semantic.adapters.fakes.experiments import FakeEnvironment, MemoryResultsStore, example_experiment
from semantic.adapters.reports.atomic import write_atomically
from semantic.adapters.reports.json_store import JsonResultsStore
from semantic.adapters.reports.markdown import MarkdownReports, cell, fence, seconds, table
from semantic.application.ports.experiments import ResultsStore
from semantic.domain.errors import ResultsTooNewError, ResultsUnreadableError
from semantic.domain.experiments import (
    Artifact,
    ComparedSequence,
    DataRow,
    Decision,
    Deviation,
    Estimate,
    Execution,
    Finding,
    HypothesisResult,
    MeasuredValue,
    Measurement,
    Need,
    NeedStatus,
    Observation,
    Point,
    PrerequisiteCheck,
    ResultsDocument,
    RunLog,
    Samples,
    Series,
    Status,
    TokenComparison,
    Verdict,
    judge,
    summarise,
)

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def an_execution(decision: Decision = Decision.GO, **changes: object) -> Execution:
    experiment = example_experiment()
    must, nice = experiment.criteria
    facts = {
        "experiment_id": experiment.id,
        "title": experiment.title,
        "status": Status.FAILED if decision is Decision.NO_GO else Status.PASSED,
        "profile": "quick",
        "model": "smollm2-135m",
        "parameters": {"seed": 42, "prompts": ("short", "long")},
        "started_at": NOON,
        "total_s": 75.0,
        "environment": FakeEnvironment().facts(()),
        "deviations": (Deviation("mlx_lm", "0.30.4", "0.32.2"),),
        "runs": (
            RunLog(number=1, label="first", started_at=NOON, duration_s=1.5, lines=("said ```hello```",)),
            RunLog(number=2, label="second", started_at=NOON, duration_s=0.5, lines=(), failure="x", error="Trace\nx"),
        ),
        "rows": (DataRow(1, {"Prompt": "short", "Match?": True, "Time (s)": 1.23456, "Memory": None}),),
        "observations": (Observation(Finding.ANOMALY, "odd"),),
        "caveats": (),
        "criteria": (judge(must, Measurement("C1", 0, "none differ")), judge(nice, None)),
        "hypotheses": (HypothesisResult("Nothing differs", Verdict.PASS, "C1 | none"),),
        "decision": decision,
        "rationale": "All 1 must-pass criteria passed.",
    }
    return Execution(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "json"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ResultsStore:
    return MemoryResultsStore() if request.param == "memory" else JsonResultsStore(tmp_path / "data")


def test_what_never_ran_has_no_results(store: ResultsStore) -> None:
    assert store.load("EXP-900") is None


def test_results_come_back_as_they_were_saved(store: ResultsStore) -> None:
    document = ResultsDocument(latest=an_execution(), history=(summarise(an_execution(Decision.NO_GO)),))
    store.save(document)
    assert store.load("EXP-900") == document


def test_saving_again_replaces(store: ResultsStore) -> None:
    store.save(ResultsDocument(latest=an_execution()))
    second = ResultsDocument(latest=an_execution(Decision.NO_GO))
    store.save(second)
    assert store.load("EXP-900") == second


def test_the_file_names_its_schema_and_version(tmp_path: Path) -> None:
    path = JsonResultsStore(tmp_path).save(ResultsDocument(latest=an_execution()))
    content = json.loads(Path(path).read_text())
    assert Path(path).name == "exp_900_results.json"
    assert (content["schema"], content["version"]) == ("semantic.experiment-results", 2)
    assert content["latest"]["decision"] == "GO"


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    store = JsonResultsStore(tmp_path)
    path = Path(store.save(ResultsDocument(latest=an_execution())))
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    with pytest.raises(ResultsTooNewError, match="schema version 3 and this version reads up to 2"):
        store.load("EXP-900")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other"}', '{"schema": "semantic.experiment-results"}'])
def test_a_damaged_or_foreign_file_is_a_named_error_that_says_where(tmp_path: Path, text: str) -> None:
    store = JsonResultsStore(tmp_path)
    store.path("EXP-900").write_text(text)
    with pytest.raises(ResultsUnreadableError, match=r"exp_900_results\.json"):
        store.load("EXP-900")


def test_a_missing_field_is_a_named_error(tmp_path: Path) -> None:
    store = JsonResultsStore(tmp_path)
    path = Path(store.save(ResultsDocument(latest=an_execution())))
    content = json.loads(path.read_text())
    del content["latest"]["criteria"]
    path.write_text(json.dumps(content))
    with pytest.raises(ResultsUnreadableError, match="does not follow its schema"):
        store.load("EXP-900")


def test_everything_that_an_execution_can_hold_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    execution = an_execution(
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
    assert store.load("EXP-900") == ResultsDocument(latest=execution)


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
    execution = an_execution(rows=(DataRow(1, {"Ratio": float("nan"), "Top": float("inf")}),))
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


TEMPLATE_HEADINGS = [
    "# EXP-900: An example",
    "## Objective",
    "## Hypothesis",
    "## Prerequisites",
    "## Method",
    "### Setup",
    "### Execution Steps",
    "### Validation",
    "## Success Criteria",
    "## Failure Plan",
    "## Results",
    "### Execution Log",
    "### Data",
    "### Observations",
    "## Analysis",
    "### Hypothesis Validation",
    "### Root Cause Analysis (if failed)",
    "## Conclusions",
    "### Summary",
    "### Decision",
    "### Next Steps",
    "## Artifacts",
    "## Metadata",
]


def outside_of_fences(report: str) -> str:
    return re.sub(r"(?ms)^(`{3,}).*?^\1$", "", report)


@pytest.mark.parametrize("decision", list(Decision))
def test_the_report_has_every_heading_of_the_template_in_its_order(tmp_path: Path, decision: Decision) -> None:
    execution = an_execution(decision, caveats=("one tie",), stopped_early="interrupted")
    document = ResultsDocument(latest=execution, history=(summarise(execution),))
    path = MarkdownReports(tmp_path).write(example_experiment(), document)
    report = Path(path).read_text()
    headings = [line for line in outside_of_fences(report).splitlines() if line.startswith("#")]
    assert headings == TEMPLATE_HEADINGS
    assert Path(path).name == "exp_900_report.md"
    for field in ("Date", "Status", "Sprint", "Owner", "Duration", "Git Commit", "Reviewer", "Approval Date"):
        assert f"**{field}**: " in report
    assert f"**{decision.value}**" in report
    assert "| mlx_lm | 0.30.4 | 0.32.2 |" in report


def test_the_report_of_an_execution_that_recorded_nothing_is_whole(tmp_path: Path) -> None:
    execution = an_execution(Decision.NO_GO, runs=(), rows=(), observations=(), deviations=(), hypotheses=())
    report = MarkdownReports(tmp_path).render(example_experiment(), ResultsDocument(latest=execution))
    assert [line for line in outside_of_fences(report).splitlines() if line.startswith("#")] == TEMPLATE_HEADINGS
    assert "No run was begun." in report
    assert "No rows were recorded." in report


def test_headings_rules_tables_and_blocks_stand_after_a_blank_line(tmp_path: Path) -> None:
    execution = an_execution(Decision.CONDITIONAL_GO, caveats=("one tie",), stopped_early="interrupted")
    document = ResultsDocument(latest=execution, history=(summarise(execution),))
    report = MarkdownReports(tmp_path).render(example_experiment(), document)
    lines = outside_of_fences(report).splitlines()
    crowded = [
        line
        for before, line in itertools.pairwise(lines)
        if before and (line.startswith("#") or line == "---" or (line.startswith("| ") and not before.startswith("|")))
    ]
    assert crowded == []
    assert "\n\n\n" not in report


def test_log_text_with_fences_of_its_own_stays_inside_its_block() -> None:
    assert fence("a ```b``` c", "text") == "````text\na ```b``` c\n````"


def test_cells_are_one_line_without_bars() -> None:
    assert cell("a|b\nc") == "a\\|b c"
    assert cell("x" * 100) == "x" * 59 + "…"
    assert [cell(value) for value in (True, False, None, 1.23456, 7)] == ["✅", "❌", "", "1.235", "7"]


def test_rows_with_different_columns_share_one_table() -> None:
    assert table([DataRow(1, {"a": 1}), DataRow(2, {"b": "x"})]).splitlines() == [
        "| Run | a | b |",
        "|-----|---|---|",
        "| 1 | 1 |  |",
        "| 2 |  | x |",
    ]


def test_durations_read_naturally() -> None:
    assert [seconds(value) for value in (0.012, 12.34, 245.0)] == ["0.01 s", "12.3 s", "4 min 5 s"]
