"""EXP-014: soak: an engine that is used at random for hours stays whole, right, and as large as it was."""

import traceback
from collections.abc import Sequence
from random import Random
from statistics import median

from attrs import define, field

from semantic.experiments import (
    Dependency,
    EngineIntegrityError,
    Experiment,
    FailurePlan,
    FailureScenario,
    Finding,
    Hypothesis,
    Lab,
    Method,
    ModelRequirement,
    NextSteps,
    PoolIntegrityError,
    Prerequisites,
    Profile,
    Related,
    Step,
    StoreIntegrityError,
    at_least,
    at_most,
    exactly,
    fixtures,
    must,
    nice,
)

FIXTURES = fixtures(__file__, "exp_014")
Counts, Soak, SetBack, Wrong = FIXTURES.Counts, FIXTURES.Soak, FIXTURES.SetBack, FIXTURES.Wrong

MIB = 2**20

EXPERIMENT = Experiment(
    id="EXP-014",
    title="Soak",
    sprint="5 - Under load",
    owner="QE",
    expected_duration="11 minutes quick, 4 hours full, on 2 cores",
    objective=(
        "Prove that an engine which is used at random for a long time stays whole, says what it would say without "
        "memory, loses nothing that was durable, and takes no more of the machine at the end than at the beginning."
    ),
    hypotheses=(
        Hypothesis("Pool, index, memory and store agree after every operation", ("C1",)),
        Hypothesis("Agents are where a naive model has them; what was durable is there after every end", ("C2", "C3")),
        Hypothesis("Replies are those of an engine without memory, except at near-ties (ADR 0004)", ("C4", "C5")),
        Hypothesis("Nothing raises that should not", ("C6",)),
        Hypothesis("Memory, threads and open files do not grow", ("C7", "C8", "C9")),
        Hypothesis("All of this was tried, often", ("C10", "N1")),
    ),
    prerequisites=Prerequisites(
        models=(
            ModelRequirement("SmolLM2-135M-Instruct", "fast testing"),
            ModelRequirement(
                "Gemma 3 12B",
                "production validation",
                not_run_because="it needs more memory than this machine has; pass --model to run it elsewhere",
            ),
        ),
        dependencies=(Dependency("mlx_lm", "0.30.4"), Dependency("mlx")),
        components=(
            "semantic.application.integrity:check_integrity",
            "semantic.application.agent:Agent",
            "semantic.adapters.storage.disk_store:DiskStore",
        ),
    ),
    method=Method(
        environment=(
            "engine = semantic.open('smollm2-135m', memory=..., store=folder)   # room for a dozen blocks: it evicts\n"
            "plain = semantic.open('smollm2-135m', prefix_caching=False)"
        ),
        data=(
            "# Short messages, one to four new tokens, three system messages of which one is longer than a block,\n"
            "# token ids cut from agents' contexts; fixtures/exp_014_fixtures.py has the operations and their weights"
        ),
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "minutes": 240,
            "round_s": 600,
            "warm_up_rounds": 3,
            "blocks": 12,
            "most_agents": 8,
            "most_under_way": 4,
            "compared_share": 0.1,
            "restart_weight": 0.2,
            "kill_weight": 0.02,
        },
        steps=(
            Step(
                "In rounds, each on a store of its own and from a seed of its own: draw an operation that can be done "
                "now (make, talk, leave a stream early, begin a turn, submit, collect, cancel, ask, fork, forget, "
                "carry to another name through a file, flush, restart, kill), and do it",
                "soak.operate()",
            ),
            Step(
                "After each, hold the engine's books against each other, and its agents against the naive model's",
                "engine.check_integrity()\nagent.tokens == (*engine.encode([*told, message]), *completion.token_ids)",
            ),
            Step("Compute one in ten replies again without memory", "compare_with_solo(done, plain.generate(prompt))"),
            Step("After each round, with its engines closed, read memory, threads and open files", "lab.memory.read()"),
        ),
        measurement=(
            "# A round ends with the first thing that is wrong; its log has the seed and the last operations. Repeat\n"
            "# it by running with that seed as `seed`.\n"
            "# Growth: the median of the last third of the rounds after warm-up, less that of the first third.\n"
            "# Threads: MLX keeps a worker for each thread that ever computed, also when that one has ended and its\n"
            "# streams are cleared, so each engine that is opened leaves one. What grows beyond that is ours."
        ),
    ),
    criteria=(
        must("C1", "Operations after which the books did not balance", exactly(0)),
        must("C2", "Operations after which an agent, or a reply's course, was not the naive model's", exactly(0)),
        must("C3", "Restarts and kills after which something durable was gone", exactly(0)),
        must("C4", "Sampled replies that differ from those without memory other than by a tie", exactly(0)),
        must("C5", "Ties beyond one for each started 10,000 tokens", exactly(0)),
        must("C6", "Operations that raised anything else", exactly(0)),
        must("C7", "Growth of resident memory after warm-up", at_most(48, "MiB")),
        must("C8", "Growth of the number of threads beyond one for each engine opened, after warm-up", at_most(2)),
        must("C9", "Growth of the number of open files after warm-up", at_most(0)),
        must("C10", "Kinds of operations that were done, of those there are", exactly(1, "of all")),
        nice("N1", "Operations a minute", at_least(200)),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "The books do not balance",
                "Repeat the round from its seed; the operation before the last is the suspect. Add it to "
                "tests/application/test_caching_state_machine.py",
                "Any such operation: escalate to PM",
            ),
            FailureScenario(
                "A reply differs",
                "Take the prompt from the log; run it on an engine that has only that agent (EXP-005, EXP-006)",
                "Any such reply: escalate to PM",
            ),
            FailureScenario(
                "Something grows",
                "Repeat with MALLOC_ARENA_MAX=1: glibc gives threads memory of their own, and engines have new ones. "
                "What still grows is a leak: leave out one kind of operation after the other",
                "If it has not levelled off after an hour",
            ),
        ),
    ),
    profiles=(
        Profile(
            "smoke",
            "30 seconds, for whoever changes the experiment",
            {"minutes": 0.5, "round_s": 10, "restart_weight": 1},
        ),
        Profile(
            "quick",
            "10 minutes in rounds of 40 seconds",
            {"minutes": 10, "round_s": 40, "restart_weight": 1, "kill_weight": 0.2},
        ),
        Profile("full", "4 hours in rounds of 10 minutes, with fewer restarts"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Repeat with a budget for the store, and with a model with windows or recurrent state",
        future="Run the full profile each night",
    ),
    related=Related(adrs=("ADR-0004", "ADR-0009", "ADR-0010"), experiments=("EXP-003", "EXP-005", "EXP-007")),
)


@define
class Readings:
    """What the process held after each round; of threads, those beyond one for each engine that was opened."""

    resident: list[int] = field(factory=list)
    threads: list[int] = field(factory=list)
    open_files: list[int] = field(factory=list)

    def read(self, lab: Lab, engines: int) -> None:
        """Once more, after so many engines."""
        reading, holdings = lab.memory.read(), lab.memory.holdings()
        self.resident.append(reading.resident)
        self.threads.append(holdings.threads - engines)
        self.open_files.append(holdings.open_files)
        lab.row(
            **{
                "Resident (MiB)": reading.resident / MIB,
                "MLX active (MiB)": reading.device_active / MIB,
                "Engines so far": engines,
                "Threads": holdings.threads,
                "Open files": holdings.open_files,
            }
        )


def run(lab: Lab) -> None:
    """Rounds, until the time is over."""
    counts, readings = Counts(), Readings()
    start, end_s = lab.clock.monotonic(), lab.parameters["minutes"] * 60
    number = 0
    try:
        while (elapsed_s := lab.clock.monotonic() - start) < end_s:
            seed = lab.parameters["seed"] + number
            number += 1
            lab.progress(f"round {number}", int(elapsed_s), int(end_s))
            with lab.run(f"round {number}, seed {seed}"):
                one_round(lab, counts, seed, min(lab.parameters["round_s"], end_s - elapsed_s))
                readings.read(lab, counts.engines)
    finally:
        conclude(lab, counts, readings, lab.clock.monotonic() - start)


def one_round(lab: Lab, counts: "Counts", seed: int, seconds: float) -> None:
    """Operations on a fresh store until the time is over, or something is wrong."""
    before, until = counts.operations, lab.clock.monotonic() + seconds
    memory = str(FIXTURES.PLAIN_BYTES)
    with lab.stores.place() as store, lab.engines.open(prefix_caching=False, memory=memory) as plain:
        counts.engines += 1
        soak = Soak(lab, counts, Random(seed), store, plain)
        try:
            while lab.clock.monotonic() < until:
                soak.operate()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding, with the operations before it
            judge(counts, error)
            for line in (*soak.recent, *traceback.format_exc().splitlines()):
                lab.log(line)
            lab.fail(f"seed {seed}, operation {counts.operations - before + 1}: {type(error).__name__}: {error}")
        finally:
            soak.close()
    lab.log(f"{counts.operations - before} operations from seed {seed}")


def judge(counts: "Counts", error: Exception) -> None:
    """Which of the promises was broken."""
    if isinstance(error, (PoolIntegrityError, EngineIntegrityError, StoreIntegrityError)):
        counts.unbalanced += 1
    elif isinstance(error, SetBack):
        counts.set_back += 1
    elif isinstance(error, Wrong):
        counts.astray += 1
    else:
        counts.raised += 1


def conclude(lab: Lab, counts: "Counts", readings: Readings, seconds: float) -> None:
    """Fill in the criteria, also after an early stop."""
    tally = lab.tally()
    evidence = f"{counts.checks:,} operations, each checked"
    lab.measure("C1", counts.unbalanced if counts.checks else 1, evidence)
    lab.measure("C2", counts.astray, evidence)
    ends = counts.done["restart"] + counts.done["kill"]
    lab.measure(
        "C3", counts.set_back, f"{counts.done['restart']} restarts and {counts.done['kill']} kills, {ends} ends"
    )
    lab.measure("C4", len(tally.mismatches) if tally.sequences else 1, str(tally))
    lab.measure("C5", tally.ties_over_cap, f"{len(tally.ties)} ties in {tally.tokens} tokens")
    lab.measure("C6", counts.raised, evidence)
    for criterion, values, unit in (
        ("C7", readings.resident, MIB),
        ("C8", readings.threads, 1),
        ("C9", readings.open_files, 1),
    ):
        settled = values[min(lab.parameters["warm_up_rounds"], len(values) // 2) :]
        if settled:
            first, last = thirds(settled)
            lab.measure(criterion, (last - first) / unit, f"{first / unit:.1f}, at the end {last / unit:.1f}")
    planned = FIXTURES.kinds(lab.parameters)
    done = [kind for kind in planned if counts.done[kind]]
    by_kind = ", ".join(f"{kind} {counts.done[kind]}" for kind in planned)
    lab.measure("C10", len(done) / len(planned), by_kind)
    lab.measure(
        "N1", counts.operations / max(seconds, 1e-9) * 60, f"{counts.operations:,} in {seconds / 60:.1f} minutes"
    )
    if counts.operations and not (counts.unbalanced or counts.astray or counts.set_back or counts.raised):
        lab.observe(Finding.POSITIVE, f"nothing was wrong after any of {counts.operations:,} operations")
    for label, tie in tally.ties:
        lab.caveat(f"{label}: {tie}")


def thirds(values: Sequence[int]) -> tuple[float, float]:
    """Medians of the first and of the last third."""
    size = max(1, len(values) // 3)
    return median(values[:size]), median(values[-size:])
