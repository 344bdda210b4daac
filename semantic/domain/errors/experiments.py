"""What is wrong with an experiment, its results, or the processes it works with."""

from semantic.domain.errors.base import SemanticError


class ExperimentError(SemanticError):
    """Base of errors about declaring and running experiments."""


class ExperimentNotFoundError(ExperimentError):
    """No experiment has this id. `semantic experiment list` shows those there are."""


class ExperimentDeclarationError(ExperimentError):
    """The experiment's file does not declare a valid experiment. The message names the file and the field."""


class UnknownExperimentOptionError(ExperimentError, ValueError):
    """The experiment declares no such profile or parameter. The message lists those there are."""


class MissingPrerequisiteError(ExperimentError):
    """The experiment names code that is not there. Install it, or correct the declaration's components."""


class NoResultsError(ExperimentError):
    """The experiment has not been run here, so there is nothing to report. Run it: `semantic experiment run ID`."""


class ResultsUnreadableError(ExperimentError):
    """The results file is damaged or not one of ours. Move it away and run the experiment again."""


class ResultsTooNewError(ResultsUnreadableError):
    """The results were written by a newer version of this library. Upgrade, or give another data folder."""

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(
            f"{path} has results of schema version {found} and this version reads up to {supported}; "
            "upgrade semantic-kv, or write to another data folder"
        )
        self.path, self.found, self.supported = path, found, supported


class ResultsNotWritableError(ExperimentError, OSError):
    """The results can't be written there. Make the folder writable, or name another one with --data."""


class ReviewUnreadableError(ExperimentError):
    """The review beside the results is not what a review may hold. The message names the file, line and field."""


class CannotResumeError(ExperimentError):
    """The interrupted execution was another one: other code, machine, model or parameters. Run without --resume."""


class NotComparableError(ExperimentError):
    """What was named to compare is no results file, no folder of them, and no execution. The message lists those."""


class ReferenceRunError(ExperimentError):
    """The reference process (mlx_lm alone) failed. Its last output is in the message."""


class ChildEndedError(ExperimentError):
    """A process that an experiment had started ended, or refused what it was asked. The message has its last output."""
