"""What authors of experiments import.

An experiment is a file ``experiments/scripts/exp_NNN_name.py`` with two names in it: ``EXPERIMENT``, an
:class:`Experiment` that declares every section of the template, and ``run``, a function that takes the
:class:`Lab` and carries the experiment out. ``semantic experiment run EXP-NNN`` does the rest.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

from semantic.application.comparing import compare_with_reference, compare_with_solo
from semantic.application.lab import Lab
from semantic.application.notebook import Line
from semantic.application.pairing import PairedTimes
from semantic.application.ports.block_store import BlockStore
from semantic.application.ports.engine import AgentFace, EngineFace, Prompt
from semantic.application.ports.engine_process import Change, EngineProcess, Reply, Standing, Turn
from semantic.application.ports.quality import Agreement, KVMode, QualityProbe
from semantic.application.ports.reference import ReferenceOutput
from semantic.application.ports.stores import Disk
from semantic.domain.errors import (
    EngineIntegrityError,
    ExperimentDeclarationError,
    PoolIntegrityError,
    StoreIntegrityError,
)
from semantic.domain.experiments import (
    CriticalTrigger,
    Dependency,
    Estimate,
    Experiment,
    FailurePlan,
    FailureScenario,
    Finding,
    Hypothesis,
    LaneTally,
    Method,
    ModelRequirement,
    NextSteps,
    Observation,
    Prerequisites,
    Profile,
    Related,
    RootCause,
    SignOff,
    Step,
    TokenComparison,
    at_least,
    at_most,
    compare_token_ids,
    drawn_tokens,
    estimate_median,
    exactly,
    is_tie,
    must,
    nice,
)
from semantic.domain.value_objects.completion import Completion, Delta

__all__ = [
    "AgentFace",
    "Agreement",
    "BlockStore",
    "Change",
    "Completion",
    "CriticalTrigger",
    "Delta",
    "Dependency",
    "Disk",
    "EngineFace",
    "EngineIntegrityError",
    "EngineProcess",
    "Estimate",
    "Experiment",
    "FailurePlan",
    "FailureScenario",
    "Finding",
    "Hypothesis",
    "KVMode",
    "Lab",
    "LaneTally",
    "Line",
    "Method",
    "ModelRequirement",
    "NextSteps",
    "Observation",
    "PairedTimes",
    "PoolIntegrityError",
    "Prerequisites",
    "Profile",
    "Prompt",
    "QualityProbe",
    "ReferenceOutput",
    "Related",
    "Reply",
    "RootCause",
    "SignOff",
    "Standing",
    "Step",
    "StoreIntegrityError",
    "TokenComparison",
    "Turn",
    "at_least",
    "at_most",
    "compare_token_ids",
    "compare_with_reference",
    "compare_with_solo",
    "drawn_tokens",
    "estimate_median",
    "exactly",
    "fixtures",
    "is_tie",
    "must",
    "nice",
]


def fixtures(script: str, stem: str) -> ModuleType:
    """The module ``fixtures/<stem>_fixtures.py`` beside the folder of ``script`` (pass ``__file__``).

    Loaded by path, so that two folders of experiments may use the same names.
    """
    path = Path(script).resolve().parent.parent / "fixtures" / f"{stem}_fixtures.py"
    spec = importlib.util.spec_from_file_location(f"_fixtures_of_{stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ExperimentDeclarationError(f"{script} asks for fixtures that are not there: {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
