"""What experiments need, without files, without a model: for tests of experiments, yours included."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, field

from semantic.adapters.fakes.engine import fake_engine
from semantic.adapters.fakes.model import FakeModel
from semantic.adapters.fakes.stores import FakeStores
from semantic.adapters.fakes.tier import fake_tier
from semantic.application.engine import Engine
from semantic.application.ports.experiments import ListedExperiment, RunnableExperiment
from semantic.application.ports.memory_probe import Holdings, MemoryReading
from semantic.application.ports.stores import Stores
from semantic.domain.experiments import (
    DataRow,
    Decision,
    Deviation,
    EnvironmentFacts,
    Execution,
    Experiment,
    FailurePlan,
    FailureScenario,
    Finding,
    Hypothesis,
    HypothesisResult,
    Measurement,
    Method,
    ModelRequirement,
    NextSteps,
    Observation,
    Prerequisites,
    Profile,
    ResultsDocument,
    Review,
    RunLog,
    Status,
    Step,
    Verdict,
    at_most,
    exactly,
    judge,
    must,
    nice,
)
from semantic.domain.value_objects import parse_size


def example_experiment(**changes: Any) -> Experiment:
    """The smallest valid declaration: one must (``C1`` exactly 0), one nice (``N1`` at most 10)."""
    declared: dict[str, Any] = {
        "id": "EXP-900",
        "title": "An example",
        "sprint": "2",
        "owner": "QE",
        "expected_duration": "no time",
        "objective": "Show what a declaration needs.",
        "hypotheses": (Hypothesis("Nothing differs", ("C1",)), Hypothesis("It is quick", ("N1",))),
        "prerequisites": Prerequisites(models=(ModelRequirement("SmolLM2-135M-Instruct", "fast testing"),)),
        "method": Method(
            environment="import semantic",
            data="prompts = []",
            parameters={"seed": 42, "size": 1},
            steps=(Step("Count what differs"),),
            measurement="assert differences == 0",
        ),
        "criteria": (must("C1", "Differences", exactly(0)), nice("N1", "Seconds", at_most(10, "s"))),
        "failure_plan": FailurePlan(scenarios=(FailureScenario("It differs", "Look", "At once"),)),
        "profiles": (Profile("quick", "small", {"size": 2}), Profile("full", "as declared")),
        "next_steps": NextSteps(immediate="None"),
    }
    return Experiment(**{**declared, **changes})


def example_execution(decision: Decision = Decision.GO, **changes: Any) -> Execution:
    """What running :func:`example_experiment` could have left behind: two runs, one of them crashed, and a row."""
    experiment = example_experiment()
    needed, wanted = experiment.criteria
    noon = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
    left: dict[str, Any] = {
        "experiment_id": experiment.id,
        "title": experiment.title,
        "status": Status.FAILED if decision is Decision.NO_GO else Status.PASSED,
        "profile": "quick",
        "model": "smollm2-135m",
        "parameters": {"seed": 42, "prompts": ("short", "long")},
        "started_at": noon,
        "total_s": 75.0,
        "environment": FakeEnvironment().facts(()),
        "deviations": (Deviation("mlx_lm", "0.30.4", "0.32.2"),),
        "runs": (
            RunLog(number=1, label="first", started_at=noon, duration_s=1.5, lines=("said ```hello```",)),
            RunLog(number=2, label="second", started_at=noon, duration_s=0.5, lines=(), failure="x", error="Trace\nx"),
        ),
        "rows": (DataRow(1, {"Prompt": "short", "Match?": True, "Time (s)": 1.23456, "Memory": None}),),
        "observations": (Observation(Finding.ANOMALY, "odd"),),
        "caveats": (),
        "criteria": (judge(needed, Measurement("C1", 0, "none differ")), judge(wanted, None)),
        "hypotheses": (HypothesisResult("Nothing differs", Verdict.PASS, "C1 | none"),),
        "decision": decision,
        "rationale": "All 1 must-pass criteria passed.",
    }
    return Execution(**{**left, **changes})


@define
class FakeEngines:
    """Fulfils the engine factory port with whole engines on fake models; ``opened`` remembers the lanes asked for.

    ``model`` makes the model of each engine: give it one with another rule to see an experiment say NO-GO. ``stores``
    are the lab's.
    """

    model: Callable[[], FakeModel] = FakeModel
    blocks: int = 1024
    stores: Stores = field(factory=FakeStores)
    opened: list[str] = field(factory=list)

    def open(
        self,
        *,
        exactness: str = "token",
        max_num_seqs: int = 8,
        max_token_gap_ms: float | None = 500.0,
        prefill_step_size: int | None = None,
        cache_layout: str = "auto",
        memory: str = "2GB",
        store: str | None = None,
        prefix_caching: bool = True,
        kv_bits: int | str | None = None,
        kv_group_size: int = 64,
        kv_at_rest: str = "exact",
        prompt_lookup_num_tokens: int = 15,
    ) -> Engine:
        """Open a fake engine of as many blocks as ``memory`` holds, at most :attr:`blocks`.

        It keeps no keys and values to have a precision.
        """
        self.opened.append(exactness)
        model = self.model()
        return fake_engine(
            model=model,
            blocks=min(self.blocks, parse_size(memory) // model.profile.cache_spec.bytes_per_block),
            max_num_seqs=max_num_seqs,
            max_token_gap_s=None if max_token_gap_ms is None else max_token_gap_ms / 1e3,
            prefix_caching=prefix_caching,
            tier=None if store is None else fake_tier(self.stores.open(store)),
            prompt_lookup_num_tokens=prompt_lookup_num_tokens,
        )


@define
class FakeMemoryProbe:
    """Each reading adds ``growth`` bytes to what the one before said, and ``leaks`` threads and files."""

    growth: int = 0
    leaks: int = 0
    _holdings: Holdings = field(factory=lambda: Holdings(threads=4, open_files=9))
    _held: int = 100_000_000

    def read(self) -> MemoryReading:
        """The counters, a little later."""
        self._held += self.growth
        return MemoryReading(self._held, 0, self._held, self._held)

    def holdings(self) -> Holdings:
        """The counts, a little later."""
        now = self._holdings
        self._holdings = Holdings(now.threads + self.leaks, now.open_files + self.leaks)
        return now

    def reset_peak(self) -> None:
        """Nothing to do: the peak is what is held."""


@define
class FakeEnvironment:
    """A machine that is the same everywhere.

    ``absent`` are components it says are missing, ``problem`` is why no model can be loaded.
    """

    versions: Mapping[str, str] = {"mlx": "0.32.4", "mlx_lm": "0.32.2", "xxhash": "3.5.0"}
    absent: Sequence[str] = ()
    problem: str = ""
    commit: str = "0123456789abcdef"

    def facts(self, distributions: Sequence[str]) -> EnvironmentFacts:
        """Always the same."""
        return EnvironmentFacts(
            commit=self.commit,
            dirty=False,
            python="3.11.9",
            platform="Linux",
            cpu="a fake, 2 cores",
            device="none",
            dtype="none",
            versions=self.versions,
        )

    def missing(self, components: Sequence[str]) -> Sequence[str]:
        """Those of ``components`` that are in ``absent``."""
        return [component for component in components if component in self.absent]

    def model_problem(self, model: str) -> str:
        """The one it was made with."""
        return self.problem


@define
class MemoryResultsStore:
    """Results in a dictionary, those of a sweep's combinations under ``id variant``."""

    documents: dict[str, ResultsDocument] = field(factory=dict)

    def prepare(self) -> None:
        """Nothing to do."""

    def location(self, experiment_id: str, variant: str = "") -> str:
        """A name that says what it is."""
        return f"memory:{_key(experiment_id, variant)}"

    def load(self, experiment_id: str, variant: str = "") -> ResultsDocument | None:
        """What was saved last."""
        return self.documents.get(_key(experiment_id, variant))

    def combinations(self, experiment_id: str) -> Sequence[ResultsDocument]:
        """Those that have a variant."""
        keys = sorted(key for key in self.documents if key.startswith(f"{experiment_id} "))
        return [self.documents[key] for key in keys]

    def set_aside(self, experiment_id: str, variant: str = "") -> str:
        """Remember it under another name."""
        key = _key(experiment_id, variant)
        self.documents[f"{key}.unreadable"] = self.documents.pop(key)
        return f"memory:{key}.unreadable"

    def save(self, document: ResultsDocument) -> str:
        """Remember it."""
        latest = document.latest
        self.documents[_key(latest.experiment_id, latest.variant)] = document
        return self.location(latest.experiment_id, latest.variant)


def _key(experiment_id: str, variant: str) -> str:
    return f"{experiment_id} {variant}".strip()


@define
class MemoryReviews:
    """Reviews in a dictionary."""

    reviews: dict[str, Review] = field(factory=dict)

    def load(self, experiment_id: str) -> Review:
        """What was put there, or nothing."""
        return self.reviews.get(experiment_id, Review())


@define
class MemoryReports:
    """Remembers what would have been reported, of which declarations, and what the index would have listed last."""

    written: list[str] = field(factory=list)
    declarations: list[Experiment] = field(factory=list)
    listed: Sequence[ListedExperiment] = ()

    def write(self, experiment: RunnableExperiment, document: ResultsDocument) -> Sequence[str]:
        """Remember the id."""
        self.written.append(experiment.declaration.id)
        self.declarations.append(experiment.declaration)
        return [f"memory:{experiment.declaration.id}"]

    def write_index(self, experiments: Sequence[ListedExperiment]) -> Sequence[str]:
        """Remember what is listed."""
        self.listed = experiments
        return ["memory:index"]
