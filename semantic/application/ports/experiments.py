"""What running an experiment needs from the outside: where experiments are, and where results go."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from semantic.domain.errors import SemanticError
from semantic.domain.experiments import EnvironmentFacts, Experiment, ResultsDocument, Review

if TYPE_CHECKING:
    from semantic.application.lab import Lab


@frozen
class RunnableExperiment:
    """A declaration and the function that carries it out.

    ``source`` says where it was read, ``sha256`` what was read there, ``fixtures`` which of its fixtures it uses.
    ``lines`` says in which line each criterion (by its id) and prerequisite (by its name) is declared; ``unmeasured``
    are criteria that the script names nowhere else, so that nothing can measure them.
    """

    declaration: Experiment
    run: "Callable[[Lab], None]"
    source: str
    sha256: str = ""
    fixtures: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(factory=dict)
    unmeasured: tuple[str, ...] = ()


@frozen
class CatalogueEntry:
    """One experiment file: its id, and either the experiment or the error that reading it gave."""

    id: str
    source: str
    experiment: RunnableExperiment | None = None
    error: SemanticError | None = None


class ExperimentCatalogue(Protocol):
    """Where experiments are found. One broken file does not hide the others."""

    def entries(self) -> Sequence[CatalogueEntry]:
        """All files there are, in order of id."""

    def find(self, experiment_id: str) -> RunnableExperiment:
        """Raises ``ExperimentNotFoundError`` or, naming file and line, ``ExperimentDeclarationError``."""


class ResultsStore(Protocol):
    """Keeps one results document for each experiment, and one for each combination of a sweep (its ``variant``)."""

    def prepare(self) -> None:
        """Make sure that results can be saved. Raises ``ResultsNotWritableError``."""

    def location(self, experiment_id: str, variant: str = "") -> str:
        """Where the document lies, or would."""

    def load(self, experiment_id: str, variant: str = "") -> ResultsDocument | None:
        """None if it has not run. Raises ``ResultsUnreadableError``, or ``ResultsTooNewError``."""

    def combinations(self, experiment_id: str) -> Sequence[ResultsDocument]:
        """Those of all sweeps of this experiment, in order of their variants. Raises as ``load``."""

    def set_aside(self, experiment_id: str, variant: str = "") -> str:
        """Move a document that can't be read to where nothing overwrites it. Returns where it lies now.

        Raises ``ResultsNotWritableError``.
        """

    def save(self, document: ResultsDocument) -> str:
        """Replace what is there of the latest's id and variant, whole or not at all. Returns where it lies.

        Raises ``ResultsNotWritableError``.
        """


class Reviews(Protocol):
    """What people have written beside the results. Nothing here writes it."""

    def load(self, experiment_id: str) -> Review:
        """An empty one where there is none. Raises ``ReviewUnreadableError``."""


@frozen
class ListedExperiment:
    """A line of the index. ``document`` is None where nothing was recorded, or ``error`` says why it can't be read."""

    entry: CatalogueEntry
    document: ResultsDocument | None = None
    error: SemanticError | None = None


class ReportWriter(Protocol):
    """Turns results into documents that a reviewer can sign, and lists them."""

    def write(self, experiment: RunnableExperiment, document: ResultsDocument) -> Sequence[str]:
        """Replace the reports of one experiment, each whole or not at all. Returns where they lie."""

    def write_index(self, experiments: Sequence[ListedExperiment]) -> Sequence[str]:
        """Replace the pages over all experiments. Returns where they lie."""


class EnvironmentProbe(Protocol):
    """What machine and code this is."""

    def facts(self, distributions: Sequence[str]) -> EnvironmentFacts:
        """The facts, with the versions of these distributions where they are installed."""

    def missing(self, components: Sequence[str]) -> Sequence[str]:
        """Those of the ``module:name`` references that lead nowhere."""

    def model_problem(self, model: str) -> str:
        """Why this model can't be loaded; empty if it can."""


@frozen
class Progress:
    """How far an experiment is. ``total`` is None where it isn't known, ``left_s`` (seconds) where it can't be told."""

    experiment_id: str
    label: str
    done: int
    total: int | None
    left_s: float | None = None


class ProgressListener(Protocol):
    """Told how far it is; must be quick and must not raise."""

    def __call__(self, progress: Progress) -> None: ...
