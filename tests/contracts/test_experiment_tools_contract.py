"""What stores and engine processes of experiments do: those on fakes, and the real ones."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from semantic.adapters.fakes.processes import FakeProcesses
from semantic.adapters.fakes.stores import FakeStores
from semantic.adapters.mlx.engine_process import ChildEngines
from semantic.adapters.storage.experiment_stores import ExperimentStores
from semantic.application.ports.engine_process import Change, EngineProcesses, Turn
from semantic.application.ports.stores import Stores
from semantic.application.store_workload import CONTEXT, holds_what_was_saved, operations
from semantic.domain.errors import ChildEndedError

BLOCK_BYTES = 3000


@pytest.fixture(params=["fake", "disk"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    return FakeStores() if request.param == "fake" else ExperimentStores(tmp_path)


def work(stores: Stores, count: int) -> int:
    """How many disk operations so many operations take."""
    with stores.disk() as disk:
        assert disk.run(lambda store: [one.call(store) for one in islice(operations(BLOCK_BYTES), count)])
        return disk.operations


def test_a_place_is_empty_at_first_and_keeps_what_was_saved(stores: Stores) -> None:
    first = operations(BLOCK_BYTES)
    with stores.place() as place:
        store = stores.open(place)
        assert store.stats().blocks == 0
        operation = next(first)
        operation.call(store)
        store.close()
        again = stores.open(place)
        [published] = operation.published
        assert holds_what_was_saved(again, published)
        again.close()
    with stores.place() as other:
        assert other != place
        empty = stores.open(other)
        assert empty.stats().blocks == 0
        empty.close()


def test_what_a_cut_ends_says_so_and_what_returned_before_is_there(stores: Stores) -> None:
    planned = list(islice(operations(BLOCK_BYTES), 3))
    with stores.disk(cut_at=work(stores, 3)) as disk:
        done = []

        def carry_out(store: object) -> None:
            for operation in planned:
                operation.call(store)  # type: ignore[arg-type]
                done.append(operation)

        assert not disk.run(carry_out)
        assert len(done) < 3
        for seed in (1, 2):
            left = disk.after_power_cut(seed)
            found: set[bytes] = set()
            assert left.run(lambda store, found=found: found.update(block.hash for block in store.blocks(CONTEXT)))
            assert planned[len(done) - 1].published <= found


def test_a_killed_writer_leaves_what_it_said_to_be_done(stores: Stores) -> None:
    with stores.place() as place:
        done = stores.writer(place, block_bytes=BLOCK_BYTES).kill(after=5, delay_s=0.002)
        assert done >= 5
        *_, last, under_way = islice(operations(BLOCK_BYTES), done + 1)
        store = stores.open(place)
        found = {block.hash for block in store.blocks(CONTEXT)}
        assert last.published & under_way.published <= found <= last.published | under_way.published
        store.close()


Tools = tuple[Stores, EngineProcesses]


@pytest.fixture(params=["fake", pytest.param("mlx", marks=pytest.mark.model)])
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tools]:
    if request.param == "fake":
        stores = FakeStores()
        yield stores, FakeProcesses(stores)
    else:
        yield ExperimentStores(tmp_path), ChildEngines("smollm2-135m")


def test_an_agent_outlives_processes_that_end_and_that_are_killed(tools: Tools) -> None:
    stores, processes = tools
    with stores.place() as place:
        process = processes.start(place)
        process.make("alice", "You are terse.")
        [reply] = process.say([Turn("alice", "Hello")], max_tokens=3)
        assert reply.prompt + reply.completion.token_ids == reply.context
        process.fork("alice", "bob")
        process.close()
        process.close()
        process = processes.start(place)
        standing = process.agents()
        assert [(one.agent, one.turns, one.context) for one in standing] == [
            ("alice", 1, reply.context),
            ("bob", 1, reply.context),
        ]
        process.begin([Turn("alice", "And then?")], max_tokens=3)
        process.kill()
        with pytest.raises(ChildEndedError):
            process.agents()
        process.close()
        process = processes.start(place)
        assert [one.agent for one in process.agents()] == ["alice", "bob"]
        process.close()


def test_only_a_change_that_matters_keeps_a_process_from_what_is_stored(tools: Tools) -> None:
    stores, processes = tools
    prompt = list(range(20, 60))
    with stores.place() as place:
        for change, cached in ((Change.NONE, 0), (Change.TEMPLATE, 0), (Change.RELOADED, 39)):
            process = processes.start(place, change)
            assert process.generate(prompt, max_tokens=1).usage.cached_tokens == cached
            assert (process.loaded_blocks() > 0) == (cached > 0)
            process.flush()
            process.close()
