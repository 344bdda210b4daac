"""The report as a page: the same headings as the Markdown one, nothing from elsewhere, nothing that acts."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from semantic.adapters.fakes.experiments import example_execution, example_experiment
from semantic.adapters.reports.folder_reports import FolderReports
from semantic.application.ports.experiments import RunnableExperiment
from semantic.domain.experiments import (
    DataRow,
    Decision,
    Estimate,
    Execution,
    Experiment,
    Finding,
    Observation,
    Point,
    Related,
    ResultsDocument,
    RunLog,
    Samples,
    Series,
    summarise,
)

HEADINGS = [
    ("h1", "EXP-900: An example"),
    ("h2", "Objective"),
    ("h2", "Hypothesis"),
    ("h2", "Prerequisites"),
    ("h2", "Method"),
    ("h3", "Setup"),
    ("h3", "Execution Steps"),
    ("h3", "Validation"),
    ("h2", "Success Criteria"),
    ("h2", "Failure Plan"),
    ("h2", "Results"),
    ("h3", "Execution Log"),
    ("h3", "Data"),
    ("h3", "Observations"),
    ("h2", "Analysis"),
    ("h3", "Hypothesis Validation"),
    ("h3", "Root Cause Analysis (if failed)"),
    ("h2", "Conclusions"),
    ("h3", "Summary"),
    ("h3", "Decision"),
    ("h3", "Next Steps"),
    ("h2", "Artifacts"),
    ("h2", "Metadata"),
]

FIELDS = [
    "Date",
    "Status",
    "Sprint",
    "Owner",
    "Duration",
    "Models Required",
    "Dependencies",
    "Code Components",
    "Environment",
    "Test Data",
    "Configuration",
    "Step 1",
    "Criteria",
    "Measurement Method",
    "Must Pass",
    "Nice to Have",
    "If Experiment Fails",
    "Scenario A",
    "Action",
    "Escalation",
    "Critical Failure Trigger",
    "Run 1",
    "Positive Findings",
    "Issues Encountered",
    "Anomalies",
    "Problem",
    "Investigation",
    "Root Cause",
    "Fix Applied",
    "Rationale",
    "Immediate",
    "Sprint 2",
    "Future",
    "Code",
    "Documentation",
    "Git Commit",
    "Environment",
    "Execution Time",
    "Reviewer",
    "Approval Date",
    "Status",
    "Last Updated",
]

VOID = {"meta", "br", "img", "link", "hr", "input"}


@define(slots=False)
class Page(HTMLParser):
    """What a browser would make of it, as far as these tests ask."""

    headings: list[tuple[str, str]] = field(factory=list)
    names: list[str] = field(factory=list)
    elements: list[tuple[str, dict[str, str | None]]] = field(factory=list)
    open: list[str] = field(factory=list)
    text: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append((self.open[-1], data))
        elif self.open and self.open[-1] in ("strong", "dt"):
            self.names.append(data)


def rendered(execution: Execution, experiment: Experiment | None = None, **document: Any) -> str:
    runnable = RunnableExperiment(experiment or example_experiment(), lambda lab: None, "scripts/exp_900_x.py")
    return FolderReports(Path("data")).html(runnable, ResultsDocument(latest=execution, **document))


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    return page


ENDINGS = {
    "go": example_execution(),
    "failed": example_execution(Decision.NO_GO),
    "conditional": example_execution(Decision.CONDITIONAL_GO, caveats=("one tie",)),
    "interrupted": example_execution(Decision.NO_GO, stopped_early="interrupted"),
    "empty": example_execution(Decision.NO_GO, runs=(), rows=(), observations=(), hypotheses=(), deviations=()),
}


@pytest.mark.parametrize("execution", ENDINGS.values(), ids=ENDINGS)
def test_every_heading_of_the_template_is_there_and_every_element_is_closed(execution: Execution) -> None:
    page = read(rendered(execution, history=(summarise(execution),)))
    assert page.headings == HEADINGS
    assert page.open == []


@pytest.mark.parametrize("ending", ["go", "failed", "conditional", "interrupted"])
def test_every_field_of_the_template_is_there_in_its_order(ending: str) -> None:
    names = iter(read(rendered(ENDINGS[ending])).names)
    for wanted in FIELDS:
        assert wanted in names, f"{wanted!r} is missing, or not in its place"


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    related = Related(references=("https://example.org/paper",))
    html = rendered(example_execution(series=(curve("Memory", 1.0, 2.0),)), example_experiment(related=related))
    page = read(html)
    assert {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "embed", "form"} == set()
    assert [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)] == []
    fetched = [value for _, attributes in page.elements for name, value in attributes.items() if name == "src"]
    assert fetched == []
    assert "url(" not in html
    assert "@import" not in html
    outward = [attributes["href"] for tag, attributes in page.elements if "//" in (attributes.get("href") or "")]
    assert outward == ["https://example.org/paper"]


def test_a_link_of_an_author_cannot_run_a_script() -> None:
    related = Related(references=("javascript:alert(1)",))
    page = read(rendered(example_execution(), example_experiment(related=related)))
    assert [attributes for _, attributes in page.elements if "javascript" in str(attributes.get("href"))] == []
    assert "javascript:alert(1)" in "".join(page.text)


def test_hostile_text_shows_as_it_is_wherever_it_comes_from() -> None:
    hostile = "<script>alert(1)</script> | `x` \" ' &amp; \x1b"
    bar = Samples(
        figure=hostile, name=hostile, unit="s", values=(1.0,), estimate=Estimate(1, 1, 1), confidence=0.95, seed=0
    )
    execution = example_execution(
        rows=(DataRow(1, {hostile: hostile}),),
        observations=(Observation(Finding.ISSUE, hostile),),
        runs=(
            RunLog(
                number=1,
                label=hostile,
                started_at=example_execution().started_at,
                duration_s=1,
                lines=(hostile,),
                failure=hostile,
            ),
        ),
        samples=(bar,),
        series=(curve(hostile, 1.0, 2.0),),
        caveats=(hostile,),
        rationale=hostile,
        stopped_early=hostile,
    )
    page = read(rendered(execution, example_experiment(title=hostile, objective=hostile)))
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.open == []
    assert "".join(page.text).count("<script>alert(1)</script> | `x` \" ' &amp; \N{REPLACEMENT CHARACTER}") > 12


def test_backticks_of_an_author_are_code_and_those_of_a_model_are_not() -> None:
    execution = example_execution(observations=(Observation(Finding.ISSUE, "said `b`"),))
    html = rendered(execution, example_experiment(objective="Call `a` < 3 times"))
    assert "<p>Call <code>a</code> &lt; 3 times</p>" in html
    assert "said `b`" in html


def test_an_interrupted_execution_says_so_at_the_top() -> None:
    assert "(partial result: it ended before its last step)" in rendered(ENDINGS["interrupted"])
    assert "(partial result" not in rendered(ENDINGS["failed"])


@pytest.mark.parametrize(("ending", "kind"), [("go", "GO"), ("failed", "NO-GO"), ("conditional", "CONDITIONAL GO")])
def test_the_decision_is_marked_where_the_page_begins(ending: str, kind: str) -> None:
    classes = [attributes.get("class") for tag, attributes in read(rendered(ENDINGS[ending])).elements if tag == "div"]
    assert classes[0] == f"verdict {kind}"


def test_long_cells_are_cut_and_columns_that_may_be_long_have_room() -> None:
    html = rendered(example_execution(rows=(DataRow(1, {"Out": "word " * 400}),)))
    assert f'<td class="long">{("word " * 400)[:239]}…</td>' in html


def test_values_that_are_no_numbers_are_shown_and_not_drawn() -> None:
    execution = example_execution(
        rows=(DataRow(1, {"Ratio": float("nan")}),), series=(curve("Memory", float("nan"), 2.0, float("inf")),)
    )
    html = rendered(execution)
    assert '<td class="num">nan</td>' in html
    assert "2 values are not a finite number and not drawn." in html
    assert 'd="' in html


def test_tables_scroll_inside_their_own_box_and_colours_follow_the_reader() -> None:
    html = rendered(example_execution())
    page = read(html)
    boxes = [attributes for tag, attributes in page.elements if tag == "section"]
    tables = [tag for tag, _ in page.elements if tag == "table"]
    assert len(boxes) == len(tables) == 3
    assert {attributes["class"] for attributes in boxes} == {"scroll"}
    assert ".scroll { overflow-x: auto;" in html
    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media print" in html
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements


def test_an_execution_with_something_to_plot_has_a_figure_for_it() -> None:
    page = read(rendered(example_execution(series=(curve("Memory over time", 1.0, 2.0),))))
    assert "Memory over time" in page.text
    assert [attributes["role"] for tag, attributes in page.elements if tag == "svg"] == ["img"]
    assert "figure" not in {tag for tag, _ in read(rendered(ENDINGS["empty"])).elements}


def curve(figure: str, *heights: float) -> Series:
    points = tuple(Point(float(x), y) for x, y in enumerate(heights))
    return Series(
        figure=figure, name="resident", x_label="time", x_unit="s", y_label="memory", y_unit="MB", points=points
    )
