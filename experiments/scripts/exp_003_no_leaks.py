"""EXP-003: nothing leaks: blocks return to the pool, and memory stays flat."""

from semantic.experiments import (
    Dependency,
    EngineFace,
    Experiment,
    FailurePlan,
    FailureScenario,
    Finding,
    Hypothesis,
    Lab,
    Method,
    ModelRequirement,
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
)

PROMPTS = fixtures(__file__, "exp_001")

MIB = 2**20

EXPERIMENT = Experiment(
    id="EXP-003",
    title="No leaks",
    sprint="2 - Block-Pool Batch Engine",
    owner="QE",
    expected_duration="about 2 minutes quick, 15 minutes full, on 2 cores",
    objective="Prove that repeated batches leave no block in use behind and that memory does not grow.",
    hypotheses=(
        Hypothesis("The pool has the same number of free blocks after each of 10 runs", ("C1", "C4")),
        Hypothesis("MLX's active memory is flat after warm-up", ("C2",)),
        Hypothesis("The process's memory is flat after warm-up", ("C3",)),
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
            "semantic.domain.services:BlockPool",
            "semantic.application.batch_engine:BlockPoolBatchEngine",
        ),
    ),
    method=Method(
        environment=(
            "engine = semantic.open('smollm2-135m', prefix_caching=False)   # one engine for all runs\n"
            "# Without the prefix cache, which keeps memory on purpose: here nothing may stay behind."
        ),
        data='test_prompts = ["short", "chat", "python", "json"]   # from the fixtures of EXP-001',
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "prompts": ("short", "chat", "python", "json", "excerpt", "letter", "list", "maths"),
            "max_new_tokens": 64,
            "runs": 10,
            "warm_up_runs": 3,
        },
        steps=(
            Step("Note the free blocks of the idle pool", "before = engine.stats().pool_free_blocks"),
            Step(
                "In each run generate a batch of different lengths, and cancel one more request on its way",
                "engine.batch_generate(prompts, max_tokens=lengths)\n"
                "request = engine.submit(prompt, max_tokens=n); next(iter(request)); request.cancel()",
            ),
            Step(
                "After each run compare the free blocks, and read MLX's active memory and the resident set",
                "engine.stats().pool_free_blocks == before",
            ),
        ),
        measurement=(
            "# Flat: what the last run has more than the last warm-up run (the third), in MiB.\n"
            "# MLX's active memory counts arrays, so it should not move at all: 1 MiB allows for rounding.\n"
            "# The resident set also moves with the allocators: 32 MiB is under a tenth of what one run touches."
        ),
    ),
    criteria=(
        must("C1", "Runs after which the pool did not have its free blocks back", exactly(0)),
        must("C2", "Growth of MLX's active memory after warm-up", at_most(1, "MiB")),
        must("C3", "Growth of the process's resident memory after warm-up", at_most(32, "MiB")),
        must("C4", "Runs finished", at_least(1, "of all")),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "Blocks missing after a run",
                "Call check_integrity(), list which sequence still holds blocks; suspect the cancelled request",
                "Any block: escalate to PM, an engine that runs for days would stop",
            ),
            FailureScenario(
                "MLX's active memory grows",
                "Look for arrays kept by closed caches, or lazy arrays that hold their inputs",
                "If it grows by more than 10 MiB a run, escalate to PM",
            ),
            FailureScenario(
                "Only the resident set grows",
                "Run 50 times: a leak goes on growing, an allocator's fragmentation levels off",
                "If it has not levelled off after 50 runs",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "10 runs of 4 prompts, 16 new tokens at most",
            {"prompts": ("short", "chat", "python", "json"), "max_new_tokens": 16},
        ),
        Profile("full", "10 runs of 8 prompts, 64 new tokens at most"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Repeat with failing requests among the good ones",
        future="Repeat with the tiers and the store, whose memory is bounded and not flat",
    ),
    related=Related(adrs=("ADR-0010",), experiments=("EXP-004",)),
)


def run(lab: Lab) -> None:
    """The runs on one engine."""
    runs, warm_up = lab.parameters["runs"], lab.parameters["warm_up_runs"]
    leaks, active, resident = 0, [], []
    with lab.engines.open(prefix_caching=False) as engine:
        before = engine.stats().pool_free_blocks
        for number in range(1, runs + 1):
            lab.progress(f"run {number}", number - 1, runs)
            with lab.run(f"batch {number}"):
                one_batch(lab, engine)
                free, reading = engine.stats().pool_free_blocks, lab.memory.read()
                active.append(reading.device_active)
                resident.append(reading.resident)
                lab.row(
                    **{
                        "Free blocks": free,
                        "Back?": free == before,
                        "MLX active (MiB)": reading.device_active / MIB,
                        "MLX cache (MiB)": reading.device_cache / MIB,
                        "Resident (MiB)": reading.resident / MIB,
                    }
                )
                if free != before:
                    leaks += 1
                    lab.fail(f"{free} blocks are free, {before} were before the first run")
    lab.measure("C1", leaks, f"{before} blocks free before the first run, {leaks} runs left fewer or more")
    lab.measure("C4", len(active) / runs, f"{len(active)} of {runs}")
    if len(active) > warm_up:
        for criterion, readings in (("C2", active), ("C3", resident)):
            growth = (readings[-1] - readings[warm_up - 1]) / MIB
            evidence = f"{readings[warm_up - 1] / MIB:.1f} MiB after run {warm_up}, {readings[-1] / MIB:.1f} at last"
            lab.measure(criterion, growth, evidence)
    if not leaks:
        lab.observe(Finding.POSITIVE, f"all {before} blocks were free after each of {len(active)} runs")


def one_batch(lab: Lab, engine: EngineFace) -> None:
    """A batch of different lengths, and one request that is cancelled after its first token."""
    known = {prompt[0]: prompt[1] for prompt in [*PROMPTS.PROMPTS, *PROMPTS.QUICK_PROMPTS]}
    names, longest = lab.parameters["prompts"], lab.parameters["max_new_tokens"]
    lengths = [max(1, longest - 2 * number) for number in range(len(names))]
    done = engine.batch_generate([known[name] for name in names], max_tokens=lengths)
    lab.log(f"{sum(len(completion.token_ids) for completion in done)} tokens in {len(done)} completions")
    request = engine.submit(known[names[0]], max_tokens=longest)
    next(iter(request))
    request.cancel()
    lab.log(f"one more request: {request.result(timeout=60).finish_reason}")
