"""What an experiment needs, as it was found before the run."""

import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

from attrs import frozen

from semantic.domain.experiments.declaration import Dependency, ModelRequirement, Prerequisites


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


def check_prerequisites(
    needs: Prerequisites,
    model: str,
    versions: Mapping[str, str],
    missing_components: Collection[str] = (),
    model_problem: str = "",
) -> tuple[PrerequisiteCheck, ...]:
    """Hold what is needed against what is there.

    ``model`` is the one that will run, ``model_problem`` why it can't be loaded, empty if it can. ``versions`` are
    those of the distributions that are installed, ``missing_components`` the references that lead nowhere.
    """
    return (
        *_check_models(needs.models, model, model_problem),
        *(_check_dependency(dependency, versions.get(dependency.name, "")) for dependency in needs.dependencies),
        *(_check_component(component, component in missing_components) for component in needs.components),
    )


def _check_models(requirements: Sequence[ModelRequirement], model: str, problem: str) -> Sequence[PrerequisiteCheck]:
    checks = [_check_model(requirement, model) for requirement in requirements]
    if not any(check.status is not NeedStatus.NOT_RUN for check in checks):
        return checks
    if problem:
        checks.append(
            PrerequisiteCheck(
                kind=Need.MODEL,
                name=model,
                wanted="can be loaded",
                found=problem,
                status=NeedStatus.MISSING,
                remedy=f"semantic model fetch {model}, or name another one with --model",
            )
        )
    return checks


def _check_model(requirement: ModelRequirement, model: str) -> PrerequisiteCheck:
    if is_same_model(model, requirement.name):
        found, status = model, NeedStatus.MET
    elif requirement.not_run_because:
        found, status = f"not run: {requirement.not_run_because}", NeedStatus.NOT_RUN
    else:
        found, status = f"another model ran: {model}", NeedStatus.DIFFERS
    return PrerequisiteCheck(
        kind=Need.MODEL,
        name=requirement.name,
        purpose=requirement.purpose,
        wanted=requirement.name,
        found=found,
        status=status,
    )


def _check_dependency(dependency: Dependency, installed: str) -> PrerequisiteCheck:
    wanted = dependency.version or "any version"
    if not installed:
        distribution = dependency.name.replace("_", "-")
        version = f"=={dependency.version}" if dependency.version else ""
        status, remedy = NeedStatus.MISSING, f"pip install '{distribution}{version}'"
    else:
        met = not dependency.version or installed == dependency.version
        status, remedy = NeedStatus.MET if met else NeedStatus.DIFFERS, ""
    return PrerequisiteCheck(
        kind=Need.DEPENDENCY,
        name=dependency.name,
        wanted=wanted,
        found=installed or "not installed",
        status=status,
        remedy=remedy,
    )


def _check_component(component: str, is_missing: bool) -> PrerequisiteCheck:
    return PrerequisiteCheck(
        kind=Need.COMPONENT,
        name=component,
        wanted="exists",
        found="not importable" if is_missing else "exists",
        status=NeedStatus.MISSING if is_missing else NeedStatus.MET,
        remedy=(
            f"install what provides {component.partition(':')[0].partition('.')[0]}, or correct the declaration's "
            "prerequisites.components"
        )
        if is_missing
        else "",
    )


def is_same_model(name: str, declared: str) -> bool:
    """``smollm2-135m`` is SmolLM2-135M-Instruct, and so is ``mlx-community/SmolLM2-135M-Instruct``."""
    name, declared = (re.sub(r"[^a-z0-9]", "", text.lower().rsplit("/", 1)[-1]) for text in (name, declared))
    return declared.startswith(name) or name.startswith(declared)
