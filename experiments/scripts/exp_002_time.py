"""EXP-002: the engine takes no longer than mlx_lm.generate for one request at a time."""

from attrs import define, field

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
                "In each pair run both on the same prompt, in turn; who begins alternates from pair to pair (ADR 0018)",
                "lab.paired(name, ('engine', ours), ('reference', theirs), pairs=pairs).ratios",
            ),
            Step("Take the median of the paired ratios and its bootstrap interval", "lab.estimate(name, ratios)"),
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
    related=Related(
        adrs=("ADR-0004", "ADR-0016", "ADR-0018"),
        experiments=("EXP-001",),
        references=("https://github.com/ml-explore/mlx-lm",),
    ),
)


FIGURE = "Engine time over reference time"
LENGTHS_DIFFER = "they generated different numbers of tokens"


def run(lab: Lab) -> None:
    """Pairs over the chosen prompts."""
    known = {prompt[0]: prompt[1] for prompt in [*PROMPTS.PROMPTS, *PROMPTS.QUICK_PROMPTS]}
    names, pairs = lab.parameters["prompts"], lab.parameters["pairs"]
    ratios: dict[str, tuple[float, ...]] = {}
    with lab.engines.open(prefix_caching=False) as engine:
        for number, name in enumerate(names):
            so_far, total = number * (1 + pairs), len(names) * (1 + pairs)
            pair = Pair(lab, engine, name, known[name], lab.parameters["max_new_tokens"], so_far, total)
            times = lab.paired(
                name,
                ("engine", pair.ours),
                ("reference", pair.theirs),
                pairs=pairs,
                begin_with_second=number % 2 == 1,
            )
            ratios[name] = times.ratios
    conclude(lab, ratios)


@define
class Pair:
    """One prompt for both; whoever comes second says whether both generated equally many tokens."""

    lab: Lab
    engine: EngineFace
    name: str
    prompt: Prompt
    max_tokens: int
    so_far: int
    total: int
    lengths: list[int] = field(factory=list)

    def ours(self) -> None:
        """Timed by the lab, on the caller's side of the engine's face."""
        self.note(len(self.engine.generate(self.prompt, max_tokens=self.max_tokens).token_ids))

    def theirs(self) -> float:
        """Timed inside the reference's process."""
        output = self.lab.reference.timed(self.prompt, max_tokens=self.max_tokens)
        self.note(len(output.token_ids))
        return output.total_s

    def note(self, length: int) -> None:
        """Every second one completes a pair."""
        self.lengths.append(length)
        self.lab.progress(self.name, self.so_far + len(self.lengths) // 2, self.total)
        if len(self.lengths) % 2 == 0 and self.lengths[-1] != self.lengths[-2]:
            self.lab.fail(f"{LENGTHS_DIFFER}: {self.lengths[-2]} and {self.lengths[-1]}")


def conclude(lab: Lab, ratios: dict[str, tuple[float, ...]]) -> None:
    """Medians of paired ratios."""
    everything = [ratio for of_one in ratios.values() for ratio in of_one]
    if not everything:
        return
    medians = {
        name: lab.estimate(name, of_one, figure=FIGURE, limit=1.2).median for name, of_one in ratios.items() if of_one
    }
    estimate = lab.estimate("all pairs", everything, figure=FIGURE, criterion="C1")
    unequal = sum(run.failure.startswith(LENGTHS_DIFFER) for run in lab.runs)
    lab.measure("C2", unequal, f"{unequal} of {len(everything)} pairs differ in length")
    lab.measure("N1", estimate, f"median {estimate} of {len(everything)} pairs")
    worst = max(medians, key=lambda name: medians[name])
    lab.measure("N2", medians[worst], ", ".join(f"{name} {median:.3f}" for name, median in medians.items()))
    if estimate.high <= 1:
        lab.observe(Finding.POSITIVE, f"the whole interval lies at or below 1: {estimate}")
