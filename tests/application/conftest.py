"""Experiments on fakes: no model, no files, no threads."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from attrs import define, field
from gating import Gate
from talking import MODELS, Desk

from semantic.adapters.fakes import (
    FakeClock,
    FakeModel,
    FakeTokenizer,
    RecordingTelemetry,
    fake_batch_engine,
    fake_engine,
    fake_tier,
)
from semantic.adapters.fakes.archive import MemoryArchive
from semantic.adapters.fakes.experiments import (
    FakeEnvironment,
    FakeMemoryProbe,
    MemoryReports,
    MemoryResultsStore,
)
from semantic.adapters.fakes.processes import FakeProcesses
from semantic.adapters.fakes.quality import FakeQualityProbe
from semantic.adapters.fakes.reference import FakeReference
from semantic.adapters.fakes.stores import FakeStores
from semantic.adapters.reports.folder_catalogue import FolderCatalogue
from semantic.application.agent import Agent
from semantic.application.agents import Agents
from semantic.application.batch_engine import BlockPoolBatchEngine, Output
from semantic.application.engine import Engine
from semantic.application.engine_stats import EngineStats
from semantic.application.integrity import check_integrity
from semantic.application.owner_thread import Submission
from semantic.application.ports.experiments import CatalogueEntry, RunnableExperiment
from semantic.application.ports.model import ModelProfile
from semantic.application.run_experiment import RunExperiment
from semantic.domain.errors import ExperimentNotFoundError
from semantic.domain.experiments import Experiment
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import Completion, Delta, SamplingParams

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with fake_engine() as made:
        yield made


@pytest.fixture(params=list(MODELS))
def desk(request: pytest.FixtureRequest) -> Desk:
    """One for each way in which contexts can be taken up."""
    return Desk(MODELS[request.param])


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Opened at the end, so that no engine waits for ever."""
    made = Gate()
    yield made
    made.open()


class SteppedHandle:
    """A request of a :class:`SteppedEngine`: asking for its deltas is what drives the engine."""

    def __init__(self, engine: "SteppedEngine", request_id: RequestId) -> None:
        self._engine, self._request_id = engine, request_id

    def __iter__(self) -> "SteppedDeltas":
        return SteppedDeltas(self)

    def delta(self, number: int) -> Delta | None:
        """The delta of this number, when the engine has come so far; None behind the last one."""
        deltas = self._engine.deltas[self._request_id]
        while len(deltas) == number:
            if deltas and deltas[-1].completion is not None:
                return None
            self._engine.step()
        return deltas[number]

    def result(self, timeout: float | None = None) -> Completion:
        completion = list(self)[-1].completion
        assert completion is not None
        return completion

    def cancel(self) -> None:
        if not any(delta.completion for delta in self._engine.deltas[self._request_id]):
            self._engine.take([self._engine.batch.cancel(self._request_id)])


class SteppedDeltas(Iterator[Delta]):
    """A loop over a request's deltas; closing it cancels what is left."""

    def __init__(self, handle: SteppedHandle) -> None:
        self._handle, self._seen = handle, 0

    def __next__(self) -> Delta:
        delta = self._handle.delta(self._seen)
        if delta is None:
            raise StopIteration
        self._seen += 1
        return delta

    def close(self) -> None:
        self._handle.cancel()


class SteppedEngine:
    """The batch engine stepped by its caller, one step at a time: what runs beside what is always the same."""

    def __init__(self, batch: BlockPoolBatchEngine) -> None:
        self.batch = batch
        self.deltas: dict[RequestId, list[Delta]] = {}
        self.endings: dict[RequestId, Callable[..., None]] = {}
        self._agents = Agents(SteppedOwner(self), MemoryArchive(), RecordingTelemetry())  # type: ignore[arg-type]

    @property
    def profile(self) -> ModelProfile:
        return self.batch.model.profile

    def step(self) -> None:
        self.take(self.batch.step())

    def take(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if output.error is not None:
                raise output.error
            assert output.delta is not None
            if output.delta.completion is not None and output.request_id in self.endings:
                self.endings.pop(output.request_id)(self.batch, output.delta.completion)
            self.deltas[output.request_id].append(output.delta)

    def submit(self, prompt: Any, *, max_tokens: int, namespace: str = "default") -> SteppedHandle:
        request_id = self.batch.submit(self.encode(prompt), SamplingParams(max_tokens=max_tokens), namespace=namespace)
        self.deltas[request_id] = []
        return SteppedHandle(self, request_id)

    def generate(self, prompt: Any, *, max_tokens: int, namespace: str = "default") -> Completion:
        return self.submit(prompt, max_tokens=max_tokens, namespace=namespace).result()

    def batch_generate(
        self, prompts: Sequence[Any], *, max_tokens: int | Sequence[int], namespace: str = "default"
    ) -> list[Completion]:
        limits = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else max_tokens
        handles = [
            self.submit(prompt, max_tokens=n, namespace=namespace) for prompt, n in zip(prompts, limits, strict=True)
        ]
        return [handle.result() for handle in handles]

    def agent(self, name: str, *, system: str | None = None, namespace: str = "default") -> Agent:
        return self._agents.get_or_make(name, namespace, system=system)

    def agents(self) -> list[Agent]:
        return self._agents.all()

    def import_agent(self, file: str, *, name: str | None = None) -> Agent:
        return self._agents.import_agent(Path(file), name, "default")

    def check_integrity(self) -> None:
        check_integrity(self.batch)

    def flush(self) -> None:
        if self.batch.tier is not None:
            self.batch.tier.flush().result()

    def stats(self) -> EngineStats:
        return self.batch.stats()

    def encode(self, prompt: Any) -> list[int]:
        if isinstance(prompt, str):
            return FakeTokenizer().encode(prompt)
        return FakeTokenizer().encode_chat(prompt) if isinstance(prompt[0], dict) else list(prompt)

    def close(self) -> None:
        self.batch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SteppedOwner:
    """Stands for the engine's thread: what is asked is done at once."""

    def __init__(self, stepped: SteppedEngine) -> None:
        self._stepped, self.engine = stepped, stepped.batch

    def submit(self, submission: Submission) -> SteppedHandle:
        request_id = self.engine.submit(
            submission.prompt_token_ids,
            submission.sampling,
            namespace=submission.namespace,
            owner=submission.owner,
            boundaries=submission.boundaries,
        )
        self._stepped.deltas[request_id] = []
        self._stepped.endings[request_id] = submission.on_end
        return SteppedHandle(self._stepped, request_id)

    def call(self, action: Callable[[BlockPoolBatchEngine], Any]) -> Any:
        return action(self.engine)

    post = call

    def refuse_if_over(self) -> None:
        pass


@define
class SteppedEngines:
    """Opens stepped engines on ``stores``; ``model(lane)`` makes each one's model, ``clock`` is theirs."""

    model: Callable[[str], FakeModel] = lambda lane: FakeModel()
    stores: FakeStores = field(factory=FakeStores)
    clock: FakeClock = field(factory=lambda: FakeClock(tick=0.001))
    engine: type[SteppedEngine] = SteppedEngine
    blocks: int = 1024

    def open(
        self,
        *,
        exactness: str = "token",
        max_num_seqs: int = 8,
        prefix_caching: bool = True,
        store: str | None = None,
        prompt_lookup_num_tokens: int = 0,
        **_: Any,
    ) -> SteppedEngine:
        batch = fake_batch_engine(
            model=self.model(exactness),
            blocks=self.blocks,
            max_num_seqs=max_num_seqs,
            prefix_caching=prefix_caching,
            clock=self.clock,
            tier=None if store is None else fake_tier(self.stores.open(store)),
            prompt_lookup_num_tokens=prompt_lookup_num_tokens,
        )
        return self.engine(batch)


@define
class OneExperiment:
    """A catalogue of a single experiment."""

    experiment: RunnableExperiment

    def entries(self) -> Sequence[CatalogueEntry]:
        return [CatalogueEntry(self.experiment.declaration.id, "here", self.experiment)]

    def find(self, experiment_id: str) -> RunnableExperiment:
        if experiment_id != self.experiment.declaration.id:
            raise ExperimentNotFoundError(experiment_id)
        return self.experiment


@define
class Bench:
    """A runner with everything it was given still in hand."""

    runner: RunExperiment
    store: MemoryResultsStore
    reports: MemoryReports
    telemetry: RecordingTelemetry
    references: list[FakeReference] = field(factory=list)


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """Builds a runner on fakes; keywords replace its parts."""

    def build(experiment: Experiment | None = None, run: Callable[[Any], None] | None = None, **parts: Any) -> Bench:
        references: list[FakeReference] = []
        make = parts.pop("reference", FakeReference)

        def start_reference() -> FakeReference:
            references.append(make())
            return references[-1]

        if experiment is not None:
            assert run is not None
            parts["catalogue"] = OneExperiment(RunnableExperiment(experiment, run, "here.py"))
        store, reports, telemetry = MemoryResultsStore(), MemoryReports(), RecordingTelemetry()
        stores = parts.get("stores") or FakeStores()
        given = {
            "model": "smollm2-135m",
            "catalogue": FolderCatalogue(REPOSITORY / "experiments"),
            "engine_factory": SteppedEngines(stores=stores),
            "engine_processes": FakeProcesses(stores),
            "stores": stores,
            "reference_factory": start_reference,
            "quality_probes": FakeQualityProbe(),
            "clock": FakeClock(tick=0.001),
            "memory_probe": FakeMemoryProbe(),
            "results_store": store,
            "report_writer": reports,
            "environment_probe": FakeEnvironment(),
            "telemetry": telemetry,
        }
        return Bench(RunExperiment(**{**given, **parts}), store, reports, telemetry, references)

    return build


@pytest.fixture
def stepped() -> type[SteppedEngines]:
    """Stepped engines with a model for each lane."""
    return SteppedEngines
