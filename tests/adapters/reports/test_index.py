"""The pages over all experiments."""

from pathlib import Path

from semantic.adapters.fakes.experiments import example_execution, example_experiment
from semantic.adapters.reports.folder_reports import FolderReports
from semantic.application.ports.experiments import CatalogueEntry, ListedExperiment, RunnableExperiment
from semantic.domain.errors import ExperimentDeclarationError
from semantic.domain.experiments import Decision, Related, ResultsDocument


def entry(id: str, title: str) -> CatalogueEntry:
    experiment = example_experiment(id=id, title=title, related=Related(adrs=("ADR-0004",)))
    return CatalogueEntry(id, f"{id}.py", RunnableExperiment(experiment, lambda lab: None, f"{id}.py"))


def written(folder: Path, *experiments: ListedExperiment) -> tuple[str, str]:
    adrs = folder / "docs" / "adr"
    adrs.mkdir(parents=True)
    (adrs / "0004-lanes.md").touch()
    markdown, html = FolderReports(folder / "experiments" / "data", adrs).write_index(experiments)
    return Path(markdown).read_text(), Path(html).read_text()


LISTED = (
    ListedExperiment(entry("EXP-900", "One | two <b>"), ResultsDocument(latest=example_execution())),
    ListedExperiment(
        entry("EXP-901", "Cut"), ResultsDocument(latest=example_execution(Decision.NO_GO, stopped_early="interrupted"))
    ),
    ListedExperiment(entry("EXP-902", "Never")),
    ListedExperiment(
        CatalogueEntry("EXP-903", "exp_903_x.py", error=ExperimentDeclarationError("exp_903_x.py:3: no <b>")),
        error=ExperimentDeclarationError("exp_903_x.py:3: no <b>"),
    ),
)


def test_the_markdown_index_has_a_line_for_each_and_the_figures_that_decide(tmp_path: Path) -> None:
    index, _ = written(tmp_path, *LISTED)
    assert "4 experiments: 1 GO, 1 NO-GO, 1 not run, 1 unreadable." in index
    assert (
        r"| EXP-900 | One \| two \<b> | ✅ PASSED | ✅ GO | quick | 2026-01-02 "
        "| [Markdown](exp_900_report.md), [HTML](exp_900_report.html) | [JSON](exp_900_results.json) "
        "| [ADR-0004](../../docs/adr/0004-lanes.md) |"
    ) in index
    assert "| EXP-901 | Cut | ❌ FAILED (partial) | ❌ NO-GO |" in index
    assert "| EXP-902 | Never | ⏳ PENDING | - | - | - | - | - | [ADR-0004]" in index
    assert "| EXP-903 | exp_903_x.py | ⛔ UNREADABLE | - |" in index
    assert "| EXP-900 | C1: Differences | `== 0` | 0 | ✅ |" in index
    assert r"- EXP-903: exp_903_x.py:3: no \<b>" in index
    assert "\n\n\n" not in index


def test_the_page_has_a_card_for_each_marked_with_its_decision(tmp_path: Path) -> None:
    _, page = written(tmp_path, *LISTED)
    assert '<article class="card GO" id="EXP-900">\n<h3>EXP-900: One | two &lt;b&gt;</h3>' in page
    assert '<article class="card NO-GO" id="EXP-901">' in page
    assert "C1: Differences: <strong>0</strong> <span" in page
    assert '<a href="exp_900_report.html">HTML</a>' in page
    assert '<a href="../../docs/adr/0004-lanes.md">ADR-0004</a>' in page
    assert "exp_903_x.py:3: no &lt;b&gt;" in page


def test_an_index_of_nothing_says_so(tmp_path: Path) -> None:
    index, page = written(tmp_path)
    assert "There are no experiments." in index
    assert "There are no experiments." in page
