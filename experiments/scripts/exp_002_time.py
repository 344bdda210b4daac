"""EXP-002: the engine takes no longer than mlx_lm.generate for one request at a time."""

import statistics

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
    Prompt,
    Related,
    Step,
    at_most,
    estimate_median,
    exactly,
    fixtures,
    must,
    nice,
)

PROMPTS = fixtures(__file__, "exp_001")

EXPERIMENT = Experiment(
    id="EXP-002",
    title="Time of one request",
    sprint="2 - Block-Pool Batch Engine",
    owner="SE",
    expected_duration="about 2 minutes quick, 30 minutes full, on 2 cores",
    objective="Find out whether a single request takes longer through the engine than through mlx_lm.generate.",
    hypotheses=(
        Hypothesis("Generation time is within 20% of the reference's", ("C1", "C2")),
        Hypothesis("The engine is not slower than the reference", ("N1",)),
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
        components=("semantic.application.batch_engine:BlockPoolBatchEngine",),
    ),
    method=Method(
        environment=(
            "engine = semantic.open('smollm2-135m', prefix_caching=False)   # token lane, its own defaults\n"
            "# Without its prefix cache: mlx_lm.generate keeps nothing from one call to the next either.\n"
            "# mlx_lm.generate with its own defaults, in a process of its own; the two never run at once"
        ),
        data='test_prompts = ["short", "chat", "excerpt"]   # from the fixtures of EXP-001',
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "prompts": ("short", "chat", "excerpt", "document"),
            "max_new_tokens": 128,
            "pairs": 10,
        },
        steps=(
            Step("Warm up: each prompt once with each of the two, untimed"),
            Step(
                "In each pair run both on the same prompt, in turn; who begins alternates from pair to pair",
                "ratio = time_of_engine / time_of_reference",
            ),
            Step("Take the median of the paired ratios and its bootstrap interval"),
        ),
        measurement=(
            "# Seconds from the call to the complete text: ours on the caller's side of the engine's face,\n"
            "# the reference's inside its own process, so that talking to it costs it nothing.\n"
            "median(time_of_engine / time_of_reference for each pair)"
        ),
    ),
    criteria=(
        must("C1", "Median over all pairs of engine time / reference time", at_most(1.20)),
        must("C2", "Pairs in which both generated equally many tokens, missing", exactly(0)),
        nice("N1", "Median over all pairs of engine time / reference time", at_most(1.00)),
        nice("N2", "Highest median of any one prompt", at_most(1.20)),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "The engine is slower",
                "Split the time into prefill and decode by the rows; profile one decode step",
                "If the ratio is above 1.5, escalate to PM",
            ),
            FailureScenario(
                "The interval is wide",
                "Other work on the machine disturbs it: run again with more pairs on a quiet one",
                "None: no decision should rest on such a run",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "3 prompts of up to 400 tokens, 32 new tokens, 3 pairs each",
            {"prompts": ("short", "chat", "excerpt"), "max_new_tokens": 32, "pairs": 3},
        ),
        Profile("full", "4 prompts up to the 3,000-token document, 128 new tokens, 10 pairs each"),
    ),
    next_steps=NextSteps(
        immediate="Hold the ratios against the benchmark's (make bench)",
        sprint="Repeat on Metal",
        future="Gemma 3 12B",
    ),
    related=Related(experiments=("EXP-001",), references=("https://github.com/ml-explore/mlx-lm",)),
)


def run(lab: Lab) -> None:
    """Pairs over the chosen prompts."""
    known = {prompt[0]: prompt[1] for prompt in [*PROMPTS.PROMPTS, *PROMPTS.QUICK_PROMPTS]}
    pairs, max_tokens = lab.parameters["pairs"], lab.parameters["max_new_tokens"]
    names = lab.parameters["prompts"]
    ratios: dict[str, list[float]] = {name: [] for name in names}
    unequal = 0
    total = len(names) * (1 + pairs)
    with lab.engines.open(prefix_caching=False) as engine:
        with lab.run("warm-up"):
            for done, name in enumerate(names):
                lab.progress(f"warm-up, {name}", done, total)
                engine.generate(known[name], max_tokens=max_tokens)
                lab.reference.timed(known[name], max_tokens=max_tokens)
        for pair in range(pairs):
            for number, name in enumerate(names):
                lab.progress(f"pair {pair + 1}, {name}", len(names) * (1 + pair) + number, total)
                with lab.run(f"pair {pair + 1}, {name}"):
                    engine_first = (pair + number) % 2 == 0
                    ratio, equal = measure_pair(lab, engine, name, known[name], max_tokens, engine_first)
                    ratios[name].append(ratio)
                    unequal += not equal
    conclude(lab, ratios, unequal)


def measure_pair(
    lab: Lab, engine: EngineFace, name: str, prompt: Prompt, max_tokens: int, engine_first: bool
) -> tuple[float, bool]:
    """Both once; the ratio of their times, and whether they generated equally many tokens."""

    def ours() -> tuple[float, int]:
        start = lab.clock.monotonic()
        completion = engine.generate(prompt, max_tokens=max_tokens)
        return lab.clock.monotonic() - start, len(completion.token_ids)

    def theirs() -> tuple[float, int]:
        output = lab.reference.timed(prompt, max_tokens=max_tokens)
        return output.total_s, len(output.token_ids)

    if engine_first:
        (our_time, our_tokens), (their_time, their_tokens) = ours(), theirs()
    else:
        (their_time, their_tokens), (our_time, our_tokens) = theirs(), ours()
    ratio = our_time / their_time
    lab.row(
        **{
            "Prompt": name,
            "First": "engine" if engine_first else "reference",
            "New tokens": our_tokens,
            "Engine (s)": our_time,
            "Reference (s)": their_time,
            "Ratio": ratio,
        }
    )
    lab.log(f"{name}: engine {our_time:.3f} s, reference {their_time:.3f} s, ratio {ratio:.3f}")
    return ratio, our_tokens == their_tokens


def conclude(lab: Lab, ratios: dict[str, list[float]], unequal: int) -> None:
    """Medians of paired ratios."""
    everything = [ratio for of_one in ratios.values() for ratio in of_one]
    if not everything:
        return
    estimate = estimate_median(everything, lab.random)
    evidence = f"median {estimate} (95% bootstrap) of {len(everything)} pairs"
    lab.measure("C1", estimate.median, evidence)
    lab.measure("C2", unequal, f"{unequal} of {len(everything)} pairs differ in length")
    lab.measure("N1", estimate.median, evidence)
    medians = {name: statistics.median(of_one) for name, of_one in ratios.items() if of_one}
    worst = max(medians, key=lambda name: medians[name])
    lab.measure("N2", medians[worst], ", ".join(f"{name} {median:.3f}" for name, median in medians.items()))
    if estimate.high <= 1:
        lab.observe(Finding.POSITIVE, f"the whole interval lies at or below 1: {estimate}")
    if estimate.low <= 1.2 < estimate.high:
        lab.observe(Finding.ANOMALY, f"the interval {estimate} contains the limit: run it again with more pairs")
