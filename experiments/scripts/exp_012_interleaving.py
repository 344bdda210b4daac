"""EXP-012: how long running sequences wait for their next token while a long prompt is read."""

import threading
from collections.abc import Sequence
from itertools import pairwise
from statistics import quantiles

from attrs import define, field, frozen

from semantic.experiments import (
    Completion,
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
    at_most,
    compare_with_solo,
    exactly,
    fixtures,
    must,
    nice,
)

TEXTS = fixtures(__file__, "exp_009")
TARGET, WHOLE, ALL_AT_ONCE = "to a target", "in whole chunks", "not at all"

EXPERIMENT = Experiment(
    id="EXP-012",
    title="Interleaving",
    sprint="5 - Under load",
    owner="QE",
    expected_duration="about 3 minutes, on 2 cores",
    objective=(
        "Measure the gaps between the tokens of four running sequences while a prompt of 4,000 tokens arrives: read in "
        "chunks that fit a target, in whole chunks, and all at once."
    ),
    hypotheses=(
        Hypothesis("Chunks shrink until a gap fits the target", ("C1", "C2")),
        Hypothesis("The longest gap is a small part of what it is without interleaving", ("C3",)),
        Hypothesis("How a prompt is cut changes nothing that is said but at ties (ADR 0004)", ("C4",)),
        Hypothesis("The newcomer pays for it with less than twice the wait for its first token", ("N1",)),
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
        components=("semantic.application.pacing:Pacing", "semantic.application.scheduler:Scheduler"),
    ),
    method=Method(
        environment="engine = semantic.open('smollm2-135m', max_token_gap_ms=500)   # 0: whole chunks",
        data="running = excerpts of four texts; newcomer = 4,000 tokens of a fifth   # fixtures/corpus",
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "sequences": 4,
            "running_prompt_tokens": 64,
            "running_new_tokens": 300,
            "newcomer_tokens": 4000,
            "target_ms": 500.0,
            "chunk_tokens": 256,
        },
        steps=(
            Step("Start four sequences and wait until each has a few tokens", "requests = map(engine.submit, running)"),
            Step("Let the newcomer arrive; note when each token comes until it has its first", "engine.submit(long)"),
            Step("Do so with chunks that fit a target, with whole chunks, and with the prompt in one chunk"),
            Step("Hold what everyone said against the same request alone"),
        ),
        measurement=(
            "# A gap counts if it overlaps the time from the newcomer's arrival to its first token.\n"
            "# C1: the 95th percentile of the gaps, C2: the longest, over the target.\n"
            "# C3: the longest gap to a target, over the longest with the prompt in one chunk."
        ),
    ),
    criteria=(
        must("C1", "95th percentile of the gaps, over the target", at_most(1.0)),
        must("C2", "The longest gap, over the target", at_most(1.5)),
        must("C3", "The longest gap, over the longest without interleaving", at_most(0.25)),
        must("C4", "Sequences that differ from the same request alone, ties apart", exactly(0)),
        nice("N1", "The newcomer's time to first token, over that without interleaving", at_most(2.0)),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "Gaps beyond the target",
                "Plot gaps over time; compare the chunk sizes with their durations; look for other work on the cores",
                "If the longest gap is more than twice the target on an idle machine",
            ),
            FailureScenario(
                "A sequence says something else",
                "Compare its chunks' ends with those of the run alone; look for a chunk that was cut twice",
                "Any difference that is no tie",
            ),
        ),
    ),
    profiles=(
        Profile("quick", "a newcomer of 2,000 tokens", {"newcomer_tokens": 2000, "running_new_tokens": 200}),
        Profile("full", "a newcomer of 4,000 tokens"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Repeat with prefixes that are cached",
        future="Repeat on Metal and CUDA, where a chunk is a millisecond",
    ),
    related=Related(adrs=("ADR-0023",), experiments=("EXP-004", "EXP-013")),
)


@define
class Told:
    """When each token of one sequence came, in seconds on the lab's clock, and how it ended."""

    at: list[float] = field(factory=list)
    completion: Completion | None = None


@frozen
class Seen:
    """One way of reading the newcomer's prompt."""

    gaps_s: tuple[float, ...]
    first_token_s: float
    running: tuple[Completion, ...]
    newcomer: Completion


def run(lab: Lab) -> None:
    """Three engines, one after the other."""
    prompts, long = prompts_of(lab)
    parameters = lab.parameters
    ways: dict[str, tuple[float | None, int]] = {
        TARGET: (parameters["target_ms"], parameters["chunk_tokens"]),
        WHOLE: (None, parameters["chunk_tokens"]),
        ALL_AT_ONCE: (None, len(long)),
    }
    seen: dict[str, Seen] = {}
    for number, (way, (target_ms, chunk_tokens)) in enumerate(ways.items()):
        lab.progress(f"interleaved {way}", number, len(ways) + 1)
        with (
            lab.run(f"interleaved {way}"),
            lab.engines.open(
                max_token_gap_ms=target_ms, prefill_step_size=chunk_tokens, prefix_caching=False, max_num_seqs=8
            ) as engine,
        ):
            seen[way] = watch(lab, engine, way, prompts, long)
    if TARGET in seen:
        with lab.run("each alone"), lab.engines.open(prefix_caching=False) as engine:
            hold_against_solo(lab, engine, seen[TARGET], [*prompts, long])
    judge(lab, seen)


def prompts_of(lab: Lab) -> tuple[list[list[int]], list[int]]:
    """Excerpts of the corpus: short ones from places apart, and a long one."""
    with lab.engines.open() as engine:
        ids = {name: engine.encode(TEXTS.text(name)) for name in TEXTS.TEXTS}
    size, count = lab.parameters["running_prompt_tokens"], lab.parameters["sequences"]
    first, second, *_ = ids.values()
    return [first[number * 500 : number * 500 + size] for number in range(count)], second[
        : lab.parameters["newcomer_tokens"]
    ]


def watch(lab: Lab, engine: EngineFace, way: str, prompts: list[list[int]], long: list[int]) -> Seen:
    """Let them run, let the newcomer come, and note when tokens arrive."""
    told = [Told() for _ in prompts]
    requests = [engine.submit(prompt, max_tokens=lab.parameters["running_new_tokens"]) for prompt in prompts]
    are_running = threading.Barrier(len(prompts) + 1)

    def listen(number: int) -> None:
        for count, delta in enumerate(requests[number], start=1):
            told[number].at.append(lab.clock.monotonic())
            if count == 4:
                are_running.wait(600)
            if delta.completion is not None:
                told[number].completion = delta.completion

    listeners = [threading.Thread(target=listen, args=(number,)) for number in range(len(prompts))]
    for listener in listeners:
        listener.start()
    are_running.wait(600)
    arrived = lab.clock.monotonic()
    newcomer = engine.submit(long, max_tokens=4)
    deltas = iter(newcomer)  # held, since dropping it would cancel the request
    next(deltas)
    first_token_at = lab.clock.monotonic()
    newcomer_done = newcomer.result(600)
    for listener in listeners:
        listener.join()
    gaps = []
    for number, one in enumerate(told):
        line = lab.series(
            f"Gaps, interleaved {way}",
            f"sequence {number + 1}",
            x_label="since the newcomer came",
            y_label="gap before the token",
            x_unit="s",
            y_unit="ms",
        )
        for before, after in pairwise(one.at):
            if after >= arrived and before <= first_token_at:
                gaps.append(after - before)
                line.add(after - arrived, (after - before) * 1e3)
    done = tuple(one.completion for one in told if one.completion is not None)
    lab.log(f"{len(gaps)} gaps while {len(long)} tokens were read in {first_token_at - arrived:.2f} s")
    seen = Seen(tuple(gaps), first_token_at - arrived, done, newcomer_done)
    lab.row(
        **{
            "Interleaved": way,
            "Gaps": len(gaps),
            "Median (ms)": percentile(gaps, 50) * 1e3,
            "95th percentile (ms)": percentile(gaps, 95) * 1e3,
            "Longest (ms)": max(gaps, default=0.0) * 1e3,
            "Newcomer's first token (s)": seen.first_token_s,
        }
    )
    return seen


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent lie below."""
    if len(values) < 2:
        return max(values, default=0.0)
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def hold_against_solo(lab: Lab, engine: EngineFace, seen: Seen, prompts: list[list[int]]) -> None:
    """What each said beside the others, and what it says alone."""
    limits = [lab.parameters["running_new_tokens"]] * (len(prompts) - 1) + [4]
    said = [*seen.running, seen.newcomer]
    for number, (prompt, limit, beside) in enumerate(zip(prompts, limits, said, strict=True)):
        lab.progress(f"alone, {number + 1} of {len(prompts)}", number, len(prompts))
        alone = engine.generate(prompt, max_tokens=limit)
        comparison = compare_with_solo(beside, alone, prompt, lab.reference)
        if not lab.compare(f"sequence {number + 1}", comparison, texts_agree=beside.text == alone.text):
            lab.fail(f"sequence {number + 1} differs from itself alone: {comparison}")


def judge(lab: Lab, seen: dict[str, Seen]) -> None:
    """Gaps against the target and against no interleaving."""
    target_s = lab.parameters["target_ms"] / 1e3
    if TARGET in seen:
        gaps = seen[TARGET].gaps_s
        evidence = f"{len(gaps)} gaps, median {percentile(gaps, 50) * 1e3:.0f} ms"
        lab.measure("C1", percentile(gaps, 95) / target_s, evidence)
        lab.measure("C2", max(gaps, default=0.0) / target_s, evidence)
        tally = lab.tally()
        if tally.sequences:
            lab.measure("C4", len(tally.mismatches), str(tally))
        for label, tie in tally.ties:
            lab.caveat(f"{label}: {tie}")
    if TARGET in seen and ALL_AT_ONCE in seen:
        ours, theirs = seen[TARGET], seen[ALL_AT_ONCE]
        longest, at_once = max(ours.gaps_s, default=0.0), max(theirs.gaps_s, default=0.0)
        if at_once > 0:
            lab.measure("C3", longest / at_once, f"{longest * 1e3:.0f} ms against {at_once * 1e3:.0f}")
        if theirs.first_token_s > 0:
            lab.measure(
                "N1",
                ours.first_token_s / theirs.first_token_s,
                f"{ours.first_token_s:.2f} s against {theirs.first_token_s:.2f}",
            )
    if WHOLE in seen:
        lab.observe(
            Finding.POSITIVE,
            f"in whole chunks the longest gap is {max(seen[WHOLE].gaps_s, default=0.0) * 1e3:.0f} ms and the newcomer "
            f"waits {seen[WHOLE].first_token_s:.2f} s",
        )
