"""Reports and their index as files in one folder, beside the results."""

from collections.abc import Sequence
from pathlib import Path

from semantic.adapters.atomic import write_atomically
from semantic.adapters.reports.formats import visible
from semantic.adapters.reports.html import html_environment
from semantic.adapters.reports.index import index_lines, summary_of
from semantic.adapters.reports.links import Links
from semantic.adapters.reports.markdown import markdown_environment
from semantic.adapters.reports.plots.choose import charts_of
from semantic.adapters.reports.plots.figure import figure_of
from semantic.adapters.reports.view import view_of
from semantic.application.ports.experiments import ListedExperiment, RunnableExperiment
from semantic.domain.experiments import ResultsDocument

_HARD_BREAK = "  "
"""Two spaces end a line in Markdown, where a line break alone does not."""


class FolderReports:
    """Writes ``exp_NNN_report.md``, ``exp_NNN_report.html``, ``index.md`` and ``index.html`` into ``folder``.

    ``adrs`` is the folder of decisions that reports are linked to, where there is one.
    """

    def __init__(self, folder: Path, adrs: Path | None = None) -> None:
        self.folder = folder
        self.adrs = adrs
        self._markdown = markdown_environment()
        self._html = html_environment()

    def write(self, experiment: RunnableExperiment, document: ResultsDocument) -> Sequence[str]:
        """Render and replace the reports; return their paths."""
        name = f"{experiment.declaration.file_stem}_report"
        return self._replace(
            {f"{name}.md": self.markdown(experiment, document), f"{name}.html": self.html(experiment, document)}
        )

    def write_index(self, experiments: Sequence[ListedExperiment]) -> Sequence[str]:
        """Render and replace the index; return its paths."""
        facts = {"lines": index_lines(experiments, self._links()), "summary": summary_of(experiments)}
        return self._replace(
            {
                "index.md": visible(self._markdown.get_template("index.md.j2").render(facts)),
                "index.html": visible(self._html.get_template("index.html.j2").render(facts)),
            }
        )

    def markdown(self, experiment: RunnableExperiment, document: ResultsDocument) -> str:
        """The report as Markdown."""
        view = view_of(experiment, document, self._links(), ".md")
        facts = {"v": view, "e": view.experiment, "x": view.execution, "document": document, "br": _HARD_BREAK}
        return visible(self._markdown.get_template("report.md.j2").render(facts))

    def html(self, experiment: RunnableExperiment, document: ResultsDocument) -> str:
        """The report as a page, with plots."""
        view = view_of(experiment, document, self._links(), ".html")
        figures = [figure_of(chart) for chart in charts_of(view.execution)]
        facts = {"v": view, "e": view.experiment, "x": view.execution, "document": document, "figures": figures}
        return visible(self._html.get_template("report.html.j2").render(facts))

    def _links(self) -> Links:
        return Links(self.folder, self.adrs)

    def _replace(self, texts: dict[str, str]) -> Sequence[str]:
        for name, text in texts.items():
            write_atomically(self.folder / name, text)
        return [str(self.folder / name) for name in texts]
