"""The declaration of an experiment: every section of the template that is known before it runs.

What an author writes lives here, in the experiment's own file, or in the review beside the results, which the runner
never writes (see review.py); what the runner measures lives in the results. So a re-run cannot overwrite prose or a
sign-off.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from attrs import field, frozen

from semantic.domain.errors import ExperimentDeclarationError, UnknownExperimentOptionError
from semantic.domain.experiments.criteria import Criterion, Level
from semantic.domain.experiments.observations import Observation
from semantic.domain.experiments.parameters import PARAMETERS_ARE, Parameter, is_parameter, parse_parameter

NOT_STATED = "not stated"
"""Stands in a field of the template that the author has left out."""

_ID = re.compile(r"EXP-\d{3}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@frozen
class Hypothesis:
    """What is expected, and the ids of the criteria whose measurements confirm or refute it."""

    statement: str
    criteria: tuple[str, ...]


@frozen
class ModelRequirement:
    """A model the template asks for. ``not_run_because`` is set where this experiment does without it."""

    name: str
    purpose: str
    not_run_because: str = ""


@frozen
class Dependency:
    """A distribution and the version that the template states. Another one installed is a deviation."""

    name: str
    version: str = ""


@frozen
class Prerequisites:
    """``components`` are ``module:name`` references into the code; all are checked before the run."""

    models: tuple[ModelRequirement, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    components: tuple[str, ...] = ()


@frozen
class Step:
    """One step of the execution: what is done, and the code or pseudo-code that does it."""

    action: str
    code: str = ""


@frozen(kw_only=True)
class Method:
    """How it is done. ``environment``, ``data`` and ``measurement`` are code as the reader would write it."""

    environment: str = "# as the function `run` sets it up"
    data: str = "# as the function `run` makes it"
    parameters: Mapping[str, Parameter] = field(factory=dict)
    steps: tuple[Step, ...] = (Step("Carry out the function `run` of the experiment's script"),)
    measurement: str = "# as the function `run` measures it"


@frozen
class FailureScenario:
    """A way to fail, what to do about it, and when to escalate."""

    name: str
    action: str
    escalation: str


@frozen
class CriticalTrigger:
    """The condition that stops the experiment at once: this many failed runs in a row."""

    statement: str = "3 consecutive runs fail: stop and escalate to PM"
    consecutive_failures: int = 3


@frozen
class FailurePlan:
    """What happens when the experiment fails."""

    scenarios: tuple[FailureScenario, ...] = (
        FailureScenario(
            "A must-pass criterion fails",
            "Read its evidence and the log of the runs that failed; run again to see whether it repeats",
            "If it repeats, to the owner",
        ),
    )
    critical_trigger: CriticalTrigger = CriticalTrigger()


@frozen
class Profile:
    """A named size of the experiment. ``note`` says what is capped or left out against the full one."""

    name: str
    note: str = ""
    parameters: Mapping[str, Parameter] = field(factory=dict)


@frozen(kw_only=True)
class NextSteps:
    """What follows: right away, in this sprint, later."""

    immediate: str = "None, if it passes"
    sprint: str = ""
    future: str = ""


@frozen(kw_only=True)
class Related:
    """Links into the documentation."""

    adrs: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@frozen(kw_only=True)
class RootCause:
    """The author's analysis of a failure."""

    problem: str
    investigation: tuple[str, ...]
    root_cause: str
    fix: str


@frozen(kw_only=True)
class SignOff:
    """Who reviewed and approved the experiment, and when (YYYY-MM-DD, else ValueError). Empty until a person signs.

    ``execution`` is when the approved execution started, as the report states it; empty where only the date tells.
    """

    reviewer: str = ""
    approval_date: str = ""
    execution: str = ""

    def __attrs_post_init__(self) -> None:
        if self.approval_date and not _DATE.fullmatch(self.approval_date):
            raise ValueError(f"approval_date is written as 2026-11-26, got {self.approval_date!r}")

    @property
    def is_given(self) -> bool:
        """Whether a person has signed."""
        return bool(self.reviewer and self.approval_date)

    def covers(self, started_at: datetime) -> bool:
        """Whether it was given for the execution that started then, and not for an earlier one."""
        if not self.is_given:
            return False
        if self.execution:
            return started_at.isoformat(sep=" ").startswith(self.execution.replace("T", " "))
        return f"{started_at:%Y-%m-%d}" <= self.approval_date


@frozen(kw_only=True)
class Experiment:
    """A declared experiment. Raises :class:`ExperimentDeclarationError` naming the field that is wrong.

    ``summary``, ``observations`` (findings that no code could make), ``root_cause`` and ``sign_off`` are written after
    a run; a review file may hold them instead.
    """

    id: str
    title: str
    sprint: str = NOT_STATED
    owner: str = NOT_STATED
    expected_duration: str = NOT_STATED
    objective: str
    hypotheses: tuple[Hypothesis, ...]
    prerequisites: Prerequisites = Prerequisites()
    method: Method = field(factory=Method)
    criteria: tuple[Criterion, ...]
    failure_plan: FailurePlan = FailurePlan()
    profiles: tuple[Profile, ...] = (Profile("quick", "as declared"), Profile("full", "as declared"))
    next_steps: NextSteps = NextSteps()
    related: Related = Related()
    summary: str = ""
    observations: tuple[Observation, ...] = ()
    root_cause: RootCause | None = None
    sign_off: SignOff = SignOff()

    def __attrs_post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ExperimentDeclarationError(f"id must look like EXP-001, got {self.id!r}")
        for name in ("title", "sprint", "owner", "objective", "hypotheses", "criteria", "profiles"):
            if not getattr(self, name):
                raise ExperimentDeclarationError(f"{self.id}: {name} is empty")
        self._refuse_other_types()
        if not self.failure_plan.scenarios:
            raise ExperimentDeclarationError(f"{self.id}: failure_plan names no scenario")
        if self.failure_plan.critical_trigger.consecutive_failures < 1:
            raise ExperimentDeclarationError(f"{self.id}: the critical trigger needs at least one failure")
        self._refuse_duplicates("criteria", (criterion.id for criterion in self.criteria))
        self._refuse_duplicates("profiles", (profile.name for profile in self.profiles))
        if not any(criterion.level is Level.MUST for criterion in self.criteria):
            raise ExperimentDeclarationError(f"{self.id}: criteria has no must-pass criterion, so nothing decides")
        known = {criterion.id for criterion in self.criteria}
        for hypothesis in self.hypotheses:
            if not hypothesis.criteria:
                raise ExperimentDeclarationError(
                    f"{self.id}: hypothesis {hypothesis.statement!r} rests on no criterion"
                )
            for criterion_id in hypothesis.criteria:
                if criterion_id not in known:
                    raise ExperimentDeclarationError(
                        f"{self.id}: hypothesis {hypothesis.statement!r} rests on {criterion_id!r}, "
                        f"which is no criterion; there are {', '.join(sorted(known))}"
                    )

    def parse_parameter(self, name: str, text: str) -> Parameter:
        """A parameter's value as written on a command line, of the type that the declared one has.

        A tuple's elements are separated by commas. Raises :class:`UnknownExperimentOptionError`.
        """
        declared = {**self._of_profiles, **self.method.parameters}
        if name not in declared:
            raise self._no_parameter(name, declared)
        try:
            return parse_parameter(text, declared[name])
        except ValueError as error:
            raise UnknownExperimentOptionError(
                f"{self.id}: parameter {name} is like {declared[name]!r}, got {text!r}"
            ) from error

    @property
    def _of_profiles(self) -> dict[str, Parameter]:
        return {name: value for profile in self.profiles for name, value in profile.parameters.items()}

    def _no_parameter(self, name: str, values: Mapping[str, Parameter]) -> UnknownExperimentOptionError:
        return UnknownExperimentOptionError(
            f"{self.id} has no parameter {name!r}; there are {', '.join(sorted(values)) or 'none'}"
        )

    def _refuse_other_types(self) -> None:
        """Scripts are rarely type-checked, and a part of another type would only fail in the middle of a command."""
        for name in ("title", "sprint", "owner", "expected_duration", "objective", "summary"):
            if not isinstance(getattr(self, name), str):
                raise ExperimentDeclarationError(f"{self.id}: {name} is no text: {getattr(self, name)!r}")
        for name, kind in _PARTS.items():
            if not isinstance(getattr(self, name), kind):
                raise ExperimentDeclarationError(f"{self.id}: {name} is no {kind.__name__}: {getattr(self, name)!r}")
        for name, kind in _LISTS.items():
            each = getattr(self, name)
            if not isinstance(each, tuple | list) or not all(isinstance(one, kind) for one in each):
                raise ExperimentDeclarationError(f"{self.id}: {name} is no tuple of {kind.__name__}: {each!r}")
        for parameters in (self.method.parameters, *(profile.parameters for profile in self.profiles)):
            for name, value in parameters.items():
                if not is_parameter(value):
                    raise ExperimentDeclarationError(f"{self.id}: parameter {name} is {value!r}; {PARAMETERS_ARE}")
        for hypothesis in self.hypotheses:
            if isinstance(hypothesis.criteria, str):
                raise ExperimentDeclarationError(
                    f"{self.id}: the criteria of hypothesis {hypothesis.statement!r} are no tuple; "
                    f"write ({hypothesis.criteria!r},)"
                )

    def _refuse_duplicates(self, name: str, ids: Iterable[str]) -> None:
        twice = [id for id, count in Counter(ids).items() if count > 1]
        if twice:
            raise ExperimentDeclarationError(f"{self.id}: {name} has {twice[0]!r} twice")

    def profile(self, name: str) -> Profile:
        """The profile of this name. Raises :class:`UnknownExperimentOptionError` listing those there are."""
        for profile in self.profiles:
            if profile.name == name:
                return profile
        there_are = ", ".join(profile.name for profile in self.profiles)
        raise UnknownExperimentOptionError(f"{self.id} has no profile {name!r}; there are {there_are}")

    def parameters(self, profile_name: str, overrides: Mapping[str, Parameter] | None = None) -> dict[str, Parameter]:
        """The fixed parameters, overlaid with those of the profile, then with ``overrides``.

        Raises :class:`UnknownExperimentOptionError` for an override of what is no parameter.
        """
        values = {**self.method.parameters, **self.profile(profile_name).parameters}
        for name, value in (overrides or {}).items():
            if name not in values:
                raise self._no_parameter(name, values)
            values[name] = value
        return values

    @property
    def file_stem(self) -> str:
        """``exp_001`` for EXP-001: how its script, fixtures, results and report are named."""
        return self.id.lower().replace("-", "_")


_PARTS: Mapping[str, type] = {
    "prerequisites": Prerequisites,
    "method": Method,
    "failure_plan": FailurePlan,
    "next_steps": NextSteps,
    "related": Related,
    "sign_off": SignOff,
}
_LISTS: Mapping[str, type] = {
    "hypotheses": Hypothesis,
    "criteria": Criterion,
    "profiles": Profile,
    "observations": Observation,
}
