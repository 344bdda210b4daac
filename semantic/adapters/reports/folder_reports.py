"""Reports and their index as files in one folder, beside the results."""

from collections.abc import Sequence
from pathlib import Path

from semantic.adapters.reports.atomic import write_atomically
from semantic.adapters.reports.index import index_lines, summary_of
from semantic.adapters.reports.links import Links
from semantic.adapters.reports.markdown import markdown_environment
from semantic.adapters.reports.view import view_of
from semantic.application.ports.experiments import ListedExperiment, RunnableExperiment
from semantic.domain.experiments import ResultsDocument

_HARD_BREAK = "  "
"""Two spaces end a line in Markdown, where a line break alone does not."""


class FolderReports:
    """Writes ``exp_NNN_report.md`` and ``index.md`` into ``folder``; ``adrs`` is where decisions lie, if anywhere."""

    def __init__(self, folder: Path, adrs: Path | None = None) -> None:
        self.folder = folder
        self.adrs = adrs
        self._markdown = markdown_environment()

    def write(self, experiment: RunnableExperiment, document: ResultsDocument) -> Sequence[str]:
        """Render and replace the reports; return their paths."""
        path = self.folder / f"{experiment.declaration.file_stem}_report.md"
        write_atomically(path, self.markdown(experiment, document))
        return [str(path)]

    def write_index(self, experiments: Sequence[ListedExperiment]) -> Sequence[str]:
        """Render and replace the index; return its path."""
        facts = {"lines": index_lines(experiments, self._links()), "summary": summary_of(experiments)}
        path = self.folder / "index.md"
        write_atomically(path, self._markdown.get_template("index.md.j2").render(facts))
        return [str(path)]

    def markdown(self, experiment: RunnableExperiment, document: ResultsDocument) -> str:
        """The report as Markdown."""
        view = view_of(experiment, document, self._links(), ".md")
        return self._markdown.get_template("report.md.j2").render(
            v=view, e=view.experiment, x=view.execution, document=document, br=_HARD_BREAK
        )

    def _links(self) -> Links:
        return Links(self.folder, self.adrs)
