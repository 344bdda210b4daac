"""The report as Markdown: the template's headings and fields in order, whatever happened."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.fakes.experiments import FakeEnvironment, example_execution, example_experiment
from semantic.adapters.reports.folder_reports import FolderReports
from semantic.adapters.reports.links import Link
from semantic.adapters.reports.markdown import cell, fence, link, plain, table
from semantic.adapters.reports.tables import tables_of
from semantic.application.ports.experiments import RunnableExperiment
from semantic.domain.experiments import (
    DataRow,
    Decision,
    Execution,
    Experiment,
    Finding,
    Need,
    NeedStatus,
    Observation,
    PrerequisiteCheck,
    Related,
    ResultsDocument,
    RootCause,
    SignOff,
    summarise,
)

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

TEMPLATE_LINES = [
    "**Date**: ",
    "**Status**: ",
    "**Sprint**: ",
    "**Owner**: ",
    "**Duration**: ",
    "**Models Required**:",
    "- [x] SmolLM2-135M-Instruct",
    "- [ ] Other: ",
    "**Dependencies**:",
    "**Code Components**:",
    "1. **Environment**:",
    "2. **Test Data**:",
    "3. **Configuration**:",
    "**Step 1**: ",
    "**Criteria**:",
    "- [x] C1: ",
    "**Measurement Method**:",
    "**Must Pass** (all required):",
    "1. ✅ C1: ",
    "**Nice to Have** (optional):",
    "**If Experiment Fails**:",
    "**Scenario A**: ",
    "- **Action**: ",
    "- **Escalation**: ",
    "**Critical Failure Trigger**: ",
    "**Run 1** (2026-01-02 12:00): ",
    "| Run | ",
    "**Positive Findings**:",
    "**Issues Encountered**:",
    "**Anomalies**:",
    "- Anomaly 1: ",
    "| Hypothesis Statement | Result | Evidence |",
    "**Problem**: ",
    "**Investigation**:",
    "**Root Cause**: ",
    "**Fix Applied**: ",
    "**Rationale**: ",
    "1. **Immediate**: ",
    "2. **Sprint 2**: ",
    "3. **Future**: ",
    "**Code**:",
    "- Experiment script: ",
    "- Test fixtures: ",
    "- Data files: ",
    "**Documentation**:",
    "- Related ADRs: ",
    "- Related experiments: ",
    "- External references: ",
    "**Git Commit**: ",
    "**Environment**:",
    "- Python: ",
    "- mlx: ",
    "- mlx_lm: ",
    "- Platform: ",
    "**Execution Time**: ",
    "**Reviewer**: ",
    "**Approval Date**: ",
    "**Status**: ",
    "**Last Updated**: ",
]


def rendered(execution: Execution, experiment: Experiment | None = None, **document: Any) -> str:
    runnable = RunnableExperiment(experiment or example_experiment(), lambda lab: None, "scripts/exp_900_x.py")
    return FolderReports(Path("data")).markdown(runnable, ResultsDocument(latest=execution, **document))


def outside_of_fences(report: str) -> str:
    return re.sub(r"(?ms)^ *(`{3,}).*?^ *\1$", "", report)


def headings(report: str) -> list[str]:
    return [line for line in outside_of_fences(report).splitlines() if line.startswith("#")]


ENDINGS = {
    "go": example_execution(),
    "failed": example_execution(Decision.NO_GO),
    "conditional": example_execution(Decision.CONDITIONAL_GO, caveats=("one tie",)),
    "interrupted": example_execution(Decision.NO_GO, stopped_early="interrupted"),
}


@pytest.mark.parametrize("execution", ENDINGS.values(), ids=ENDINGS)
def test_every_heading_and_field_of_the_template_is_there_in_its_order(execution: Execution) -> None:
    report = rendered(execution, history=(summarise(execution),))
    assert headings(report) == TEMPLATE_HEADINGS
    lines = iter(report.splitlines())
    for wanted in TEMPLATE_LINES:
        assert any(line.startswith(wanted) for line in lines), f"{wanted!r} is missing, or not in its place"


def test_what_recorded_nothing_still_gives_a_whole_report() -> None:
    report = rendered(example_execution(Decision.NO_GO, runs=(), rows=(), observations=(), hypotheses=()))
    assert headings(report) == TEMPLATE_HEADINGS
    assert "No run was begun." in report
    assert "No rows were recorded." in report


def test_an_interrupted_execution_says_so_at_the_top_and_in_its_log() -> None:
    report = rendered(ENDINGS["interrupted"], history=(summarise(ENDINGS["interrupted"]),))
    assert "**Status**: ❌ FAILED (partial result: it ended before its last step)" in report
    assert "**Stopped early**:\n\n```text\ninterrupted\n```" in report
    assert "| NO-GO (partial) |" in report
    assert "partial" not in rendered(ENDINGS["failed"], history=(summarise(ENDINGS["failed"]),))


def test_a_conditional_go_lists_its_caveats_under_the_decision() -> None:
    report = rendered(ENDINGS["conditional"])
    assert "⚠️ **CONDITIONAL GO**: Proceed with caveats" in report
    assert "**Caveats**:\n- one tie" in report


def test_a_failure_without_an_analysis_asks_the_owner_for_one() -> None:
    failed = example_execution(Decision.NO_GO, rationale="Not passed: C1.")
    assert "**Problem**: Not passed: C1.\n\n**Investigation**:\n1. to be written by the owner" in rendered(failed)
    cause = RootCause(problem="p", investigation=("looked", "saw"), root_cause="r", fix="f")
    report = rendered(failed, example_experiment(root_cause=cause))
    assert (
        "**Problem**: p\n\n**Investigation**:\n1. looked\n2. saw\n\n**Root Cause**: r\n\n**Fix Applied**: f" in report
    )


def test_an_approval_of_an_earlier_execution_does_not_pass_for_one_of_this() -> None:
    signed = SignOff(reviewer="R. Viewer", approval_date="2026-01-01")
    assert "**Reviewer**: R. Viewer (of an earlier execution" in rendered(
        example_execution(), example_experiment(sign_off=signed)
    )


def test_models_are_checked_off_as_they_were_found() -> None:
    def found(name: str, status: NeedStatus, found: str) -> PrerequisiteCheck:
        return PrerequisiteCheck(kind=Need.MODEL, name=name, wanted=name, found=found, status=status, purpose="why")

    left_out = found("Gemma 3 12B", NeedStatus.NOT_RUN, "not run: too large")
    met = example_execution(prerequisites=(found("SmolLM2", NeedStatus.MET, "smollm2"), left_out))
    assert "- [x] SmolLM2 (why)\n- [ ] Gemma 3 12B (why): not run: too large\n- [ ] Other: none\n" in rendered(met)
    another = example_execution(
        model="mine", prerequisites=(found("SmolLM2", NeedStatus.DIFFERS, "another model ran: mine"), left_out)
    )
    assert "- [ ] SmolLM2 (why): another model ran: mine\n" in rendered(another)
    assert "- [x] Other: mine\n" in rendered(another)


def test_what_the_caller_set_stands_with_the_configuration() -> None:
    report = rendered(example_execution(overrides={"size": 3}, profile="gone"))
    assert "3. **Configuration**: gone profile, no longer declared; set for this run: size\n" in report


def test_findings_of_people_stand_beside_those_of_the_run() -> None:
    declared = example_experiment(observations=(Observation(Finding.ANOMALY, "seen by a person"),))
    assert "- Anomaly 1: odd\n- Anomaly 2: seen by a person" in rendered(example_execution(), declared)


def test_one_version_is_listed_where_a_distribution_goes_by_two_spellings() -> None:
    doubled = FakeEnvironment({"mlx-lm": "0.32.2", "mlx_lm": "0.32.2", "mlx": "0.32.4"}).facts(())
    report = rendered(example_execution(environment=doubled))
    assert "- [x] Other: mlx_lm v0.32.2, mlx v0.32.4\n" in report
    assert "- mlx: 0.32.4\n- mlx_lm: 0.32.2\n" in report


def test_headings_rules_tables_and_blocks_stand_after_a_blank_line() -> None:
    execution = example_execution(Decision.CONDITIONAL_GO, caveats=("one tie",), stopped_early="interrupted")
    report = rendered(execution, history=(summarise(execution),))
    lines = outside_of_fences(report).splitlines()
    crowded = [
        line
        for before, line in itertools.pairwise(lines)
        if before and (line.startswith("#") or line == "---" or (line.startswith("| ") and not before.startswith("|")))
    ]
    assert crowded == []
    assert "\n\n\n" not in report


def test_hostile_text_stays_text() -> None:
    hostile = "<script>alert(1)</script> | `x` **b** [a](http://e) &lt; \x1b[31m"
    execution = example_execution(
        rows=(DataRow(1, {"Prompt": hostile}),), observations=(Observation(Finding.ISSUE, hostile),)
    )
    report = outside_of_fences(rendered(execution))
    assert report.count(r"\<script>alert(1)\</script> \| \`x\` \*\*b\*\* [a\](http://e) \&lt; �[31m") == 1
    assert "<script>" not in report.replace(r"\<script>", "")


def test_related_decisions_and_experiments_are_links_where_there_is_something_to_lead_to(tmp_path: Path) -> None:
    data, adrs = tmp_path / "experiments" / "data", tmp_path / "docs" / "adr"
    data.mkdir(parents=True)
    adrs.mkdir(parents=True)
    (adrs / "0004-lanes.md").touch()
    (data / "exp_001_results.json").touch()
    related = Related(adrs=("ADR-0004", "ADR-0099"), experiments=("EXP-001", "EXP-002"), references=("https://e.org",))
    (tmp_path / "x.py").touch()
    declared = example_experiment(related=related)
    runnable = RunnableExperiment(declared, lambda lab: None, str(tmp_path / "x.py"), fixtures=("no_longer_here.py",))
    report = FolderReports(data, adrs).markdown(runnable, ResultsDocument(latest=example_execution()))
    assert "- Related ADRs: [ADR-0004](../../docs/adr/0004-lanes.md), ADR-0099" in report
    assert "- Related experiments: [EXP-001](exp_001_report.md), EXP-002" in report
    assert "- External references: <https://e.org>" in report
    assert "/x.py](../../x.py)\n- Test fixtures: no_longer_here.py\n" in report


def test_log_text_with_fences_of_its_own_stays_inside_its_block() -> None:
    assert fence("a ```b``` c", "text") == "````text\na ```b``` c\n````"


def test_cells_are_one_line_and_cut() -> None:
    assert cell("a|b\nc") == "a\\|b c"
    assert cell("x" * 100) == "x" * 59 + "…"
    values = (True, False, None, 1.23456, 7, float("nan"), float("inf"))
    assert [cell(value) for value in values] == ["✅", "❌", "", "1.235", "7", "nan", "inf"]


def test_only_what_would_be_markup_is_escaped() -> None:
    assert plain("mlx_lm is <= 1.2 & [0.6, 0.8]") == "mlx_lm is <= 1.2 & [0.6, 0.8]"
    assert plain("_a_ *b* <b>") == r"\_a\_ \*b\* \<b>"


def test_rows_of_one_kind_share_a_table_and_others_begin_their_own() -> None:
    rows = [
        DataRow(1, {"a": 1, "b": 2}),
        DataRow(1, {"x": "y"}),
        DataRow(2, {"a": 3}),
        DataRow(2, {"a": 4, "b": 5, "c": 6}),
    ]
    tables = tables_of(rows)
    assert [data.columns for data in tables] == [("a", "b", "c"), ("x",)]
    assert table(tables[0]).splitlines() == [
        "| Run | a | b | c |",
        "|-----|---|---|---|",
        "| 1 | 1 | 2 |  |",
        "| 2 | 3 |  |  |",
        "| 2 | 4 | 5 | 6 |",
    ]


def test_links_are_plain_text_where_they_lead_nowhere() -> None:
    assert link(Link("a|b")) == r"a\|b"
    assert link(Link("a", "b c.md")) == "[a](b%20c.md)"
