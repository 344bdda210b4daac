"""EXP-015: speculation changes no token, and is faster where a model copies and not slower where it doesn't."""

from collections.abc import Callable

from attrs import define

from semantic.domain.value_objects.completion import Completion
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
    at_least,
    compare_with_reference,
    compare_with_solo,
    exactly,
    fixtures,
    must,
    nice,
)

PROMPTS = fixtures(__file__, "exp_001")
SPECULATION = fixtures(__file__, "exp_015")

EXPERIMENT = Experiment(
    id="EXP-015",
    title="Speculation: identity and speed",
    sprint="5 - Under load",
    owner="SE",
    expected_duration="about 9 minutes quick, 1 hour full, on 2 cores",
    objective=(
        "Prove that drafts from the context change no token of any sequence, alone or in a batch, and find out how "
        "much faster a model that copies becomes, and whether one that doesn't becomes slower."
    ),
    hypotheses=(
        Hypothesis(
            "With speculation, text and token ids are those of mlx_lm.generate, except at near-ties of the reference "
            "(ADR 0004)",
            ("C1", "C2"),
        ),
        Hypothesis("They are those without speculation, alone and in batches of 4", ("C3",)),
        Hypothesis("Copy-heavy prompts decode at least 1.5 times as fast", ("C4", "C6")),
        Hypothesis("Other prompts decode at no less than 0.97 of the rate", ("C5",)),
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
            "semantic.application.speculation:Speculation",
            "semantic.domain.services.prompt_lookup:PromptLookup",
        ),
    ),
    method=Method(
        environment=(
            "drafting = semantic.open('smollm2-135m', prefix_caching=False)   # token lane, drafts as by default\n"
            "plain = semantic.open('smollm2-135m', prefix_caching=False, prompt_lookup_num_tokens=0)\n"
            "# Both on the same weights, in one process; the one that does not generate waits.\n"
            "# The reference runs in a process of its own, where nothing of the engine is imported."
        ),
        data=(
            "test_prompts = [...]   # those of EXP-001\n"
            "copy_prompts = [('edit a file', ...), ('change a record', ...), ('quote a letter', ...), ...]"
        ),
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "prompts": ("all",),
            "max_new_tokens": 500,
            "batch_size": 4,
            "copies": tuple(name for name, _ in SPECULATION.COPY_PROMPTS),
            "others": SPECULATION.OTHER_NAMES,
            "copied_tokens": 60,
            "other_tokens": 128,
            "pairs": 10,
            "other_pairs": 30,
        },
        steps=(
            Step(
                "Run the reference and the engine with speculation on EXP-001's prompts, and compare",
                "compare_with_reference(drafting.generate(prompt), lab.reference.expected(prompt))",
            ),
            Step(
                "Compare with the engine without speculation: these and the copy-heavy prompts, alone and in batches",
                "compare_with_solo(drafting.batch_generate(prompts)[i], plain.generate(prompts[i]), ...)",
            ),
            Step(
                "In each pair decode the same prompt without and with speculation, in turn (ADR 0018)",
                "lab.paired(name, ('without', plain_s), ('with', drafting_s), pairs=pairs).ratios",
            ),
        ),
        measurement=(
            "# Seconds from the first token to the last: nothing is drafted before the first.\n"
            "median(decode_s_without / decode_s_with for each pair), the lowest of all prompts of a kind"
        ),
    ),
    criteria=(
        must("C1", "Prompts that differ from the reference other than by a tie", exactly(0)),
        must("C2", "Ties beyond one for each started 10,000 tokens", exactly(0)),
        must("C3", "Sequences that differ from those without speculation other than by a tie", exactly(0)),
        must("C4", "Lowest median speed of a copy-heavy prompt, with over without", at_least(1.5)),
        must("C5", "Lowest median speed of another prompt, with over without", at_least(0.97)),
        must("C6", "Tokens drafted and found right on copy-heavy prompts, of those generated", at_least(0.5, "of all")),
        nice("N1", "Median speed of all copy-heavy pairs, with over without", at_least(2.0)),
        nice("N2", "Sequences equal to those without speculation", exactly(1, "of all")),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "A sequence differs other than by a tie",
                "Look at the first divergence: was a draft's token taken that would not have been drawn, or is the "
                "cache longer or shorter than the sequence behind it?",
                "Any mismatch: what a draft changes is when tokens are drawn, never which",
            ),
            FailureScenario(
                "Copies are not fast enough",
                "Look at the share of drafted tokens that were right; then at what a step of 16 tokens takes",
                "If a step of 16 tokens takes more than four plain ones, escalate to PM",
            ),
            FailureScenario(
                "Other prompts are slower",
                "Count the drafted tokens that were wrong; the margin of ADR 0021 may be too small for this machine",
                "If a prompt is below 0.9, switch speculation off by default",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "8 prompts of EXP-001 of at most 24 new tokens; 4 copy-heavy prompts in 4 pairs each, 2 others in 12",
            {
                "prompts": PROMPTS.QUICK_NAMES,
                "max_new_tokens": 24,
                "others": SPECULATION.OTHER_NAMES[:2],
                "other_tokens": 48,
                "pairs": 4,
                "other_pairs": 12,
            },
        ),
        Profile("full", "all 27 prompts of EXP-001 of at most 500 new tokens; 4 prompts in 10 pairs each, 4 in 30"),
    ),
    next_steps=NextSteps(
        immediate="Hold the speeds against the benchmark's (make bench ARGS='--only speculation')",
        sprint="Measure what wide steps cost on Metal",
        future="Drafts from what other agents said on the same prefix",
    ),
    related=Related(
        adrs=("ADR-0004", "ADR-0018", "ADR-0021"),
        experiments=("EXP-001", "EXP-004"),
        references=("https://github.com/apoorvumang/prompt-lookup-decoding",),
    ),
)

REFERENCE, PLAIN = "against mlx_lm", "against no speculation"
FIGURE = "Decode speed with speculation over without"


@define
class Engines:
    """The same engine with drafts and without."""

    drafting: EngineFace
    plain: EngineFace


def run(lab: Lab) -> None:
    """Identity first, then speed."""
    speeds: dict[str, tuple[float, ...]] = {}
    shares: list[float] = []
    try:
        with (
            lab.engines.open(prefix_caching=False, memory="500MB", prompt_lookup_num_tokens=15) as drafting,
            lab.engines.open(prefix_caching=False, memory="500MB", prompt_lookup_num_tokens=0) as plain,
        ):
            engines = Engines(drafting, plain)
            with lab.run("identity"):
                compare_all(lab, engines)
            for name, prompt, max_tokens in timed_prompts(lab):
                speeds[name] = measure(lab, engines, name, prompt, max_tokens, begin_with_second=len(speeds) % 2 == 1)
                if name in lab.parameters["copies"]:
                    shares.append(share_drafted(lab, engines, prompt, max_tokens))
    finally:
        conclude(lab, speeds, shares)


def known_prompts() -> dict[str, tuple[Prompt, int]]:
    """By name, with what they generate at most."""
    return {name: (prompt, limit) for name, prompt, limit in [*PROMPTS.PROMPTS, *PROMPTS.QUICK_PROMPTS]}


def compare_all(lab: Lab, engines: Engines) -> None:
    """Every prompt alone, and all of them in batches."""
    known, names, most = known_prompts(), lab.parameters["prompts"], lab.parameters["max_new_tokens"]
    chosen = [prompt[0] for prompt in PROMPTS.PROMPTS] if names == ("all",) else names
    requests = [(name, known[name][0], min(known[name][1], most)) for name in chosen]
    for done, (name, prompt, max_tokens) in enumerate(requests):
        lab.progress(f"{name}, against the reference", done, len(requests))
        expected = lab.reference.expected(prompt, max_tokens=max_tokens)
        drafted = engines.drafting.generate(prompt, max_tokens=max_tokens)
        comparison = compare_with_reference(drafted, expected)
        lab.log(f"{name}: {comparison}")
        if not lab.compare(name, comparison, lane=REFERENCE, texts_agree=drafted.text == expected.text):
            lab.fail(f"{name} is not what the reference says: {comparison}")
    copies = [(name, prompt, lab.parameters["copied_tokens"]) for name, prompt in SPECULATION.COPY_PROMPTS]
    requests = [*copies, *requests]
    for start in range(0, len(requests), lab.parameters["batch_size"]):
        batch = requests[start : start + lab.parameters["batch_size"]]
        lab.progress("with and without", start, len(requests))
        alone = [engines.plain.generate(prompt, max_tokens=limit) for _, prompt, limit in batch]
        together = engines.drafting.batch_generate(
            [prompt for _, prompt, _ in batch], max_tokens=[limit for _, _, limit in batch]
        )
        for (name, prompt, limit), expected, batched in zip(batch, alone, together, strict=True):
            drafted = engines.drafting.generate(prompt, max_tokens=limit)
            compare_one(lab, engines, f"{name}, alone", prompt, drafted, expected)
            compare_one(lab, engines, f"{name}, in a batch", prompt, batched, expected)


def compare_one(
    lab: Lab, engines: Engines, label: str, prompt: Prompt, drafted: Completion, expected: Completion
) -> None:
    """With and without."""
    comparison = compare_with_solo(drafted, expected, engines.plain.encode(prompt), lab.reference)
    passes = lab.compare(label, comparison, lane=PLAIN, texts_agree=drafted.text == expected.text)
    lab.row(**{"Prompt": label, "New tokens": len(drafted.token_ids), "Match?": comparison.agrees})
    if not passes:
        lab.fail(f"{label}: {comparison}")


def timed_prompts(lab: Lab) -> list[tuple[str, Prompt, int]]:
    """Those that copy, and those that don't."""
    copies = dict(SPECULATION.COPY_PROMPTS)
    known = known_prompts()
    return [
        *((name, copies[name], lab.parameters["copied_tokens"]) for name in lab.parameters["copies"]),
        *((name, known[name][0], lab.parameters["other_tokens"]) for name in lab.parameters["others"]),
    ]


def measure(
    lab: Lab, engines: Engines, name: str, prompt: Prompt, max_tokens: int, *, begin_with_second: bool
) -> tuple[float, ...]:
    """How many times as fast the prompt decodes with speculation, pair by pair.

    Not to be slower takes more pairs to show than to be twice as fast.
    """

    def by(engine: EngineFace) -> Callable[[], float]:
        return lambda: decode_s(engine.generate(prompt, max_tokens=max_tokens))

    pairs = lab.parameters["pairs" if name in lab.parameters["copies"] else "other_pairs"]
    lab.progress(name, 0, pairs)
    return lab.paired(
        name,
        ("without", by(engines.plain)),
        ("with", by(engines.drafting)),
        pairs=pairs,
        begin_with_second=begin_with_second,
    ).ratios


def decode_s(completion: Completion) -> float:
    """Seconds from the first token to the last."""
    return (len(completion.token_ids) - 1) / completion.timings.decode_tokens_per_s


def share_drafted(lab: Lab, engines: Engines, prompt: Prompt, max_tokens: int) -> float:
    """Of the tokens that a prompt generates, those that had been drafted."""
    before = engines.drafting.stats().accepted_tokens
    completion = engines.drafting.generate(prompt, max_tokens=max_tokens)
    return (engines.drafting.stats().accepted_tokens - before) / max(1, len(completion.token_ids))


def conclude(lab: Lab, speeds: dict[str, tuple[float, ...]], shares: list[float]) -> None:
    """Fill in the criteria with what was measured, also after an early stop."""
    reference, plain = lab.tally(REFERENCE), lab.tally(PLAIN)
    lab.measure("C1", len(reference.mismatches) if reference.sequences else 1, str(reference))
    lab.measure("C2", reference.ties_over_cap + plain.ties_over_cap, f"{reference}; {plain}")
    lab.measure("C3", len(plain.mismatches) if plain.sequences else 1, str(plain))
    lab.measure("N2", plain.share_equal, str(plain))
    for label, tie in [*reference.ties, *plain.ties]:
        lab.caveat(f"{label}: {tie}")
    for label, mismatch in [*reference.mismatches, *plain.mismatches]:
        lab.observe(Finding.ISSUE, f"{label}: {mismatch}")
    medians = {
        name: lab.estimate(name, ratios, figure=FIGURE, limit=1.5 if name in lab.parameters["copies"] else 0.97).median
        for name, ratios in speeds.items()
        if ratios
    }
    for criterion, kind in (("C4", "copies"), ("C5", "others")):
        of_kind = {name: median for name, median in medians.items() if name in lab.parameters[kind]}
        if len(of_kind) == len(lab.parameters[kind]):
            evidence = ", ".join(f"{name} {median:.3f}" for name, median in of_kind.items())
            lab.measure(criterion, min(of_kind.values()), evidence)
    copied = [ratio for name, ratios in speeds.items() if name in lab.parameters["copies"] for ratio in ratios]
    if copied:
        lab.estimate("all copies", copied, figure=FIGURE, criterion="N1")
    if shares:
        lab.measure("C6", sum(shares) / len(shares), ", ".join(f"{share:.2f}" for share in shares))
