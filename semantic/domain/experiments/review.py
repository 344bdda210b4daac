"""What people write about the results of an experiment: findings, the cause of a failure, their approval."""

from attrs import evolve, field, frozen

from semantic.domain.experiments.declaration import Experiment, RootCause, SignOff
from semantic.domain.experiments.observations import Observation


@frozen(kw_only=True)
class Review:
    """Written beside the results by the owner and the reviewer, never by the runner. Empty parts say nothing."""

    summary: str = ""
    observations: tuple[Observation, ...] = ()
    root_cause: RootCause | None = None
    sign_off: SignOff = field(factory=SignOff)

    def of(self, experiment: Experiment) -> Experiment:
        """The experiment with what was written here; it goes before what the declaration says."""
        return evolve(
            experiment,
            summary=self.summary or experiment.summary,
            observations=(*experiment.observations, *self.observations),
            root_cause=self.root_cause or experiment.root_cause,
            sign_off=self.sign_off if self.sign_off != SignOff() else experiment.sign_off,
        )
