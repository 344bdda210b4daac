"""What the experiment commands have in common: their options, and how errors end them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import typer

from semantic.adapters.cli.output import complain
from semantic.application.ports.experiments import ProgressListener
from semantic.application.run_experiment import RunExperiment
from semantic.domain.errors import (
    ExperimentNotFoundError,
    NotComparableError,
    SemanticError,
    UnknownExperimentOptionError,
)

Folder = Annotated[
    Path,
    typer.Option(
        "--experiments", envvar="SEMANTIC_EXPERIMENTS", help="Folder with scripts/, fixtures/ and data/ in it."
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="SEMANTIC_EXPERIMENTS_DATA", help="Where results and reports go; data/ in that folder."
    ),
]

FOLDER = Path("experiments")

_WRONG_USAGE = (ExperimentNotFoundError, UnknownExperimentOptionError, NotComparableError)


class MakeRunner(Protocol):
    """The use case on these folders."""

    def __call__(
        self, folder: Path, data: Path | None, model: str | None = None, listener: ProgressListener | None = None
    ) -> RunExperiment: ...


@contextmanager
def usage_errors() -> Iterator[None]:
    """What isn't there is wrong usage (2); a file that its author has to correct is a failure (1)."""
    try:
        yield
    except _WRONG_USAGE as error:
        complain(str(error))
        raise typer.Exit(2) from error
    except SemanticError as error:
        complain(str(error))
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        complain("interrupted; what was measured so far is saved, and --resume goes on from there")
        raise typer.Exit(130) from interrupt


def assignments(option: str, given: Sequence[str]) -> dict[str, str]:
    """``name=value`` as given several times. Raises ``UnknownExperimentOptionError``."""
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UnknownExperimentOptionError(f"{option} takes name=value, got {text!r}")
        pairs[name.strip()] = value.strip()
    return pairs
