"""What an experiment needs, as it was found before the run."""

from enum import StrEnum

from attrs import frozen


class Need(StrEnum):
    """The template's three kinds of prerequisite."""

    MODEL = "model"
    DEPENDENCY = "dependency"
    COMPONENT = "component"


class NeedStatus(StrEnum):
    """How a prerequisite was found. Only ``MISSING`` keeps an experiment from running."""

    MET = "met"
    DIFFERS = "differs"
    NOT_RUN = "not run"
    MISSING = "missing"


@frozen(kw_only=True)
class PrerequisiteCheck:
    """One prerequisite, checked before the first run.

    - ``name``: of the model, distribution or component; ``purpose``: what a model is for.
    - ``wanted``: what is declared, as a version; ``found``: what is there.
    - ``status``: ``differs`` is another version or another model than declared, ``not run`` a model left out.
    - ``remedy``: what to type to get it; empty unless it is missing.
    """

    kind: Need
    name: str
    wanted: str
    found: str
    status: NeedStatus
    purpose: str = ""
    remedy: str = ""
