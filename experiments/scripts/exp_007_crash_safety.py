"""EXP-007: whenever the power goes or the process is killed, what the store serves is whole."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from statistics import median

from attrs import asdict

from semantic.application.store_workload import CONTEXT, Operation, blocks, operations
from semantic.domain.errors import StoreError
from semantic.experiments import (
    BlockStore,
    Dependency,
    Experiment,
    FailurePlan,
    FailureScenario,
    Finding,
    Hypothesis,
    Lab,
    Method,
    NextSteps,
    Prerequisites,
    Profile,
    Related,
    Step,
    at_least,
    at_most,
    exactly,
    fixtures,
    must,
    nice,
)

FIXTURES = fixtures(__file__, "exp_007")
Findings, COUNTS, judge = FIXTURES.Findings, FIXTURES.COUNTS, FIXTURES.judge

EXPERIMENT = Experiment(
    id="EXP-007",
    title="Crash safety of the store",
    sprint="3 - Agents remember",
    owner="QE",
    expected_duration="about 1 minute quick, 5 minutes full, on 2 cores",
    objective=(
        "Prove that whenever the power goes or the process dies, every published block is whole, nothing "
        "unpublished is served, and nothing is lost whose operation had returned."
    ),
    hypotheses=(
        Hypothesis("After a power cut at each step of publishing every published block verifies", ("C1", "C2")),
        Hypothesis("After SIGKILL at random moments as well", ("C1", "C2")),
        Hypothesis("Nothing unpublished is served", ("C3",)),
        Hypothesis("What had returned is there, and the next process goes on from it", ("C4", "C5")),
        Hypothesis("A store of 10,000 blocks opens in under a second", ("C6", "N1")),
    ),
    prerequisites=Prerequisites(
        models=(),
        dependencies=(Dependency("xxhash"),),
        components=(
            "semantic.adapters.storage.disk_store:DiskStore",
            "semantic.adapters.fakes.filesystem:DroppingFileSystem",
        ),
    ),
    method=Method(
        environment=(
            "disk = DroppingFileSystem(cut_at=n)   # forgets what was not synced, as cruelly as POSIX allows\n"
            "store = DiskStore(folder, filesystem=disk)\n"
            "# SQLite's own files are on the real disk: its commits are its own promise.\n"
            "# SIGKILL alone can't test the order of syncs: what a process has written outlives it unsynced."
        ),
        data=(
            "# four operations again and again, on blocks whose contents follow from their names:\n"
            "store.save(head); store.save(rest); store.save_agent(record, names); store.delete([last])"
        ),
        parameters={
            "seed": 42,
            "operations": 24,
            "block_bytes": 20_000,
            "outcomes": 4,
            "sigkills": 100,
            "sigkill_block_bytes": 400_000,
            "most_operations_before": 40,
            "most_delay_ms": 12,
            "many_blocks": 10_000,
            "openings": 5,
        },
        steps=(
            Step(
                "Cut the power at every operation on the disk that the work needs, and look at each of several "
                "states that such a cut may leave",
                "for cut_at in range(1, operations + 1): disk.run(work); disk.after_power_cut(seed)",
            ),
            Step(
                "Kill a process that does the same work, after so many operations and a random delay",
                "os.kill(writer, SIGKILL)",
            ),
            Step(
                "Open what is left, verify it, compare it with what must be there, repeat the operation that was cut",
                "before & after <= published <= before | after",
            ),
            Step("Time opening a store of many blocks, in the same process, the system's caches warm"),
        ),
        measurement=(
            "# Whole: the file verifies, and its arrays are those that a block of this name was saved with.\n"
            "# Unpublished: a block that no operation up to the one under way has published, or that was deleted;\n"
            "# loading it must raise BlockMissingError."
        ),
    ),
    criteria=(
        must("C1", "Power cuts at different steps, and SIGKILLs", at_least(200, "kills")),
        must("C2", "Published blocks that were damaged", exactly(0)),
        must("C3", "Unpublished blocks that were served", exactly(0)),
        must("C4", "Blocks and turns that were lost although their operation had returned", exactly(0)),
        must("C5", "Stores that could not be opened, or not go on with the operation that was cut", exactly(0)),
        must("C6", "Median time to open the store of many blocks", at_most(1, "s")),
        nice("N1", "Longest time to open the store of many blocks", at_most(1, "s")),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "A published block is damaged after a power cut",
                "Print the operations before the cut; look for a rename or a row before the sync that it needs",
                "Any such block: escalate to PM, agents would be answered from noise",
            ),
            FailureScenario(
                "Only SIGKILL finds something",
                "Repeat with the same seed; look at what the process does in two steps without a transaction",
                "Any such kill",
            ),
            FailureScenario(
                "Opening is slow",
                "Split it into SQLite's check, reading rows, and listing folders",
                "If it is above 3 s",
            ),
        ),
    ),
    profiles=(
        Profile("quick", "2 outcomes for each cut, 30 SIGKILLs", {"outcomes": 2, "sigkills": 30, "openings": 3}),
        Profile("full", "4 outcomes for each cut, 100 SIGKILLs"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Pull the plug of a real machine",
        future="Repeat on macOS, where a sync is another call",
    ),
    related=Related(adrs=("ADR-0009",), experiments=("EXP-005",)),
)


def run(lab: Lab) -> None:
    """Power cuts, kills, opening."""
    found = Findings()
    steps = count_steps(lab)
    try:
        for first in range(1, steps + 1, 20):
            cuts = range(first, min(first + 20, steps + 1))
            lab.progress("power cuts", first, steps)
            kept = lab.step(f"power cuts at steps {cuts[0]} to {cuts[-1]}", partial(cut_power_at, lab, cuts))
            add(found, kept)
        for first in range(0, lab.parameters["sigkills"], 10):
            count = min(10, lab.parameters["sigkills"] - first)
            lab.progress("SIGKILLs", first, lab.parameters["sigkills"])
            add(found, lab.step(f"SIGKILLs {first + 1} to {first + count}", partial(kill_writers, lab, count)))
        with lab.run("opening"):
            time_opening(lab)
    finally:
        conclude(lab, found)


def work(lab: Lab) -> list[Operation]:
    """The operations, in the order in which they are done."""
    return list(islice(operations(lab.parameters["block_bytes"]), lab.parameters["operations"]))


def count_steps(lab: Lab) -> int:
    """Operations on the disk that the whole work needs."""
    with lab.stores.disk() as disk:
        disk.run(lambda store: [operation.call(store) for operation in work(lab)])
        return disk.operations


def cut_power_at(lab: Lab, cuts: range) -> dict[str, int]:
    """A cut at each of these steps; what was found."""
    found = Findings()
    for cut_at in cuts:
        cut_power(lab, cut_at, found)
    return recorded(lab, found)


def kill_writers(lab: Lab, count: int) -> dict[str, int]:
    """So many SIGKILLs; what was found."""
    found = Findings()
    for _ in range(count):
        kill_writer(lab, found)
    return recorded(lab, found)


def recorded(lab: Lab, found: Findings) -> dict[str, int]:
    """A row for what a step found, and the counts as they can be kept."""
    lab.row(**{title: getattr(found, name) for name, title in COUNTS.items()})
    if found.wrong:
        lab.fail(f"{found.wrong} things were wrong: {found}")
    return asdict(found)


def add(found: Findings, kept: dict[str, int] | None) -> None:
    """Count what a step found, unless it crashed."""
    for name, count in (kept or {}).items():
        setattr(found, name, getattr(found, name) + count)


def cut_power(lab: Lab, cut_at: int, found: Findings) -> None:
    """One cut, and what it may leave."""
    planned = work(lab)
    with lab.stores.disk(cut_at) as disk:
        done: list[Operation] = []

        def carry_out(store: BlockStore) -> None:
            for operation in planned:
                operation.call(store)
                done.append(operation)

        disk.run(carry_out)
        found.kills += 1
        for outcome in range(lab.parameters["outcomes"]):
            left = disk.after_power_cut(seed=1000 * cut_at + outcome)
            attempt(lab, found, lambda left=left: left.run(lambda store: judge(store, len(done), planned, found)))


def kill_writer(lab: Lab, found: Findings) -> None:
    """One SIGKILL, and what it left."""
    after = lab.random.randrange(lab.parameters["most_operations_before"])
    delay_s = lab.random.uniform(0, lab.parameters["most_delay_ms"]) / 1000
    with lab.stores.place() as place:
        block_bytes = lab.parameters["sigkill_block_bytes"]
        done = lab.stores.writer(place, block_bytes=block_bytes).kill(after=after, delay_s=delay_s)
        found.kills += 1

        def look() -> None:
            store = lab.stores.open(place)
            try:
                judge(store, done, list(islice(operations(block_bytes), done + 1)), found)
            finally:
                store.close()

        attempt(lab, found, look)


def attempt(lab: Lab, found: Findings, look: Callable[[], object]) -> None:
    """Whatever the store refuses counts."""
    found.states += 1
    try:
        look()
    except StoreError as error:
        found.stuck += 1
        lab.log(f"the store could not go on: {error}")


def time_opening(lab: Lab) -> None:
    """Fill a store, and open it several times."""
    many, chain_blocks = lab.parameters["many_blocks"], 40
    with lab.stores.place() as place:
        store = lab.stores.open(place)
        for chain in range(many // chain_blocks):
            store.save(blocks(chain, chain_blocks, block_bytes=256))
        store.close()
        times = [time_to_open(lab, place, many) for _ in range(lab.parameters["openings"])]
    evidence = f"{many:,} blocks, opened {len(times)} times: {', '.join(f'{time:.3f}' for time in times)} s"
    lab.measure("C6", median(times), evidence)
    lab.measure("N1", max(times), evidence)


def time_to_open(lab: Lab, place: str, many: int) -> float:
    """Until its blocks are listed, as an engine needs them."""
    start = lab.clock.monotonic()
    store = lab.stores.open(place)
    listed = store.blocks(CONTEXT)
    seconds = lab.clock.monotonic() - start
    count = len(list(listed))
    store.close()
    if count != many:
        lab.fail(f"the store of {many:,} blocks lists {count:,}")
    return seconds


def conclude(lab: Lab, found: Findings) -> None:
    """Fill in the criteria, also after an early stop."""
    evidence = f"{found.kills} kills, {found.states} states looked at, {found.verified:,} whole blocks"
    lab.measure("C1", found.kills, evidence)
    lab.measure("C2", found.damaged, evidence)
    lab.measure("C3", found.served, evidence)
    lab.measure("C4", found.lost, evidence)
    lab.measure("C5", found.stuck, evidence)
    if found.kills and not found.wrong:
        lab.observe(Finding.POSITIVE, f"after {evidence}: nothing damaged, served too early, or lost")
