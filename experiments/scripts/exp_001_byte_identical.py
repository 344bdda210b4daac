"""EXP-001: the engine says what mlx_lm.generate says, token for token and byte for byte."""

from functools import partial

from semantic.experiments import (
    Dependency,
    EngineFace,
    Experiment,
    FailurePlan,
    FailureScenario,
    Finding,
    Hypothesis,
    Lab,
    LaneTally,
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
    exactly,
    fixtures,
    must,
    nice,
)

PROMPTS = fixtures(__file__, "exp_001")

EXPERIMENT = Experiment(
    id="EXP-001",
    title="Byte-identical output",
    sprint="2 - Block-Pool Batch Engine",
    owner="SE",
    expected_duration="about 2 minutes quick, 1 hour full, on 2 cores",
    objective=(
        "Prove that BlockPoolBatchEngine produces byte-identical output to the reference, mlx_lm.generate, "
        "for prompts of every kind, in both exactness lanes."
    ),
    hypotheses=(
        Hypothesis("In the bit lane, text and token ids equal the reference's for every prompt", ("C1",)),
        Hypothesis(
            "In the token lane, text and token ids equal the reference's, except where the reference itself "
            "stands at a near-tie (ADR 0004)",
            ("C2", "C3"),
        ),
        Hypothesis("Every prompt runs in both lanes, without an error", ("C4",)),
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
            "semantic.domain.value_objects:ModelCacheSpec",
            "semantic.application.batch_engine:BlockPoolBatchEngine",
        ),
    ),
    method=Method(
        environment=(
            "import semantic\n"
            "from mlx_lm import generate\n\n"
            "model, tokenizer = semantic.load('smollm2-135m')   # the same weights for both\n"
            "engine = semantic.open('smollm2-135m', exactness=lane, prefix_caching=False)   # every prompt whole\n"
            "# The reference runs in a process of its own, where nothing of the engine is imported."
        ),
        data=(
            "test_prompts = [\n"
            '    ("short", "The quick brown fox", 50),\n'
            '    ("medium", "Write a story about a robot", 500),\n'
            '    ("long", "Explain quantum computing in detail", 2000),\n'
            "    ...  # and 24 more: chat, code, lists, tables, maths, non-Latin text, a 3,000-token document\n"
            "]"
        ),
        parameters={"temperature": 0.0, "seed": 42, "prompts": ("all",), "max_new_tokens": 2000},
        steps=(
            Step(
                "Run the reference once for each prompt, keeping its two best candidates at each token",
                "expected = lab.reference.expected(prompt, max_tokens=max_tokens)",
            ),
            Step(
                "Run the engine on each prompt in the bit lane, then in the token lane",
                "with lab.engines.open(exactness=lane, prefix_caching=False) as engine:\n"
                "    actual = engine.generate(prompt, max_tokens=max_tokens)",
            ),
            Step(
                "Compare drawn tokens up to the first divergence, and the text",
                "comparison = compare_with_reference(actual, expected)",
            ),
        ),
        measurement=(
            "def validate_result(actual, expected):\n"
            "    assert actual.token_ids == expected.token_ids and actual.text == expected.text\n"
            "    # Token lane only: a first divergence whose two tokens are the reference's two best candidates,\n"
            "    # closer than TIE_BOUND_NATS, is a tie. Ties are listed, counted and capped."
        ),
    ),
    criteria=(
        must("C1", "Bit lane: prompts whose token ids and text equal the reference's", exactly(1, "of all")),
        must("C2", "Token lane: prompts that differ from the reference other than by a tie", exactly(0)),
        must("C3", "Token lane: ties beyond one for each started 10,000 tokens", exactly(0)),
        must("C4", "Comparisons made, of prompts times lanes", exactly(1, "of all")),
        must("C5", "Prompts with at least one new token from the reference", at_least(0.9, "of all")),
        nice("N1", "Token lane: prompts whose token ids and text equal the reference's", exactly(1, "of all")),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "Output mismatch in the bit lane",
                "Compare the log-probabilities at the first divergence; look for an operation whose shape differs "
                "from mlx_lm's (chunk size, rows per forward, attention kernel)",
                "Any mismatch: this lane promises 100%",
            ),
            FailureScenario(
                "Output mismatch in the token lane that is no tie",
                "Rerun the prompt alone; check cache length, positions and masks at the divergence",
                "If more than 5% of the prompts mismatch, escalate to PM",
            ),
            FailureScenario(
                "Too many ties",
                "Measure reference-against-reference variation on this device and dtype, as ADR 0004 does",
                "If the variation is above the bound, the ADR must state a bound for this device first",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "8 prompts, the template's three among them, each capped at 24 new tokens; "
            "the document is represented by a 400-token excerpt",
            {"prompts": PROMPTS.QUICK_NAMES, "max_new_tokens": 24},
        ),
        Profile("full", "all 27 prompts at full length (50, 500 and 2,000 new tokens for the template's)"),
    ),
    next_steps=NextSteps(
        immediate="Run EXP-004 for the same claim in batches",
        sprint="Run the full profile on Metal and state its tie bound in ADR 0004",
        future="Gemma 3 12B",
    ),
    related=Related(
        adrs=("ADR-0003", "ADR-0004", "ADR-0016", "ADR-0017"),
        experiments=("EXP-004",),
        references=("https://github.com/ml-explore/mlx-lm",),
    ),
)


LANES = ("bit", "token")


def run(lab: Lab) -> None:
    """Both lanes over the chosen prompts."""
    prompts = chosen(lab)
    total = len(prompts) * (1 + len(LANES))
    try:
        with lab.run("reference"):
            for done, (name, prompt, max_tokens) in enumerate(prompts):
                lab.progress(f"reference, {name}", done, total)
                if all(lab.is_done(label(lane, name)) for lane in LANES):
                    continue
                expected = lab.reference.expected(prompt, max_tokens=max_tokens)
                lab.log(f"{name}: {expected.prompt_tokens} tokens in, {len(expected.token_ids)} out")
        for turn, lane in enumerate(LANES, start=1):
            with lab.engines.open(exactness=lane, prefix_caching=False) as engine:
                for number, (name, prompt, max_tokens) in enumerate(prompts):
                    lab.progress(label(lane, name), turn * len(prompts) + number, total)
                    lab.step(label(lane, name), partial(compare, lab, engine, lane, name, prompt, max_tokens))
    finally:
        conclude(lab, prompts, lab.tally("bit"), lab.tally("token"))


def label(lane: str, name: str) -> str:
    """Of one prompt in one lane."""
    return f"{lane} lane, {name}"


def chosen(lab: Lab) -> list[tuple[str, Prompt, int]]:
    """The prompts of this profile, with their new tokens capped."""
    names, cap = lab.parameters["prompts"], lab.parameters["max_new_tokens"]
    known = {prompt[0]: prompt for prompt in [*PROMPTS.PROMPTS, *PROMPTS.QUICK_PROMPTS]}
    everything = [prompt[0] for prompt in PROMPTS.PROMPTS]
    return [(name, known[name][1], min(known[name][2], cap)) for name in (everything if names == ("all",) else names)]


def compare(lab: Lab, engine: EngineFace, lane: str, name: str, prompt: Prompt, max_tokens: int) -> None:
    """One prompt in one lane."""
    expected = lab.reference.expected(prompt, max_tokens=max_tokens)
    start = lab.clock.monotonic()
    actual = engine.generate(prompt, max_tokens=max_tokens)
    elapsed = lab.clock.monotonic() - start
    comparison = compare_with_reference(actual, expected)
    texts_agree = actual.text == expected.text
    passes = lab.compare(name, comparison, lane=lane, texts_agree=texts_agree)
    lab.row(
        **{
            "Prompt": f"{name}, {lane} lane",
            "Expected Output": expected.text,
            "Actual Output": actual.text,
            "Match?": comparison.agrees and texts_agree,
            "New tokens": len(actual.token_ids),
            "Divergence": comparison.first_divergence,
            "Time (s)": elapsed,
            "Memory (MB)": lab.memory.read().resident / 1e6,
        }
    )
    lab.log(f"{name}: {comparison}; text {'equal' if texts_agree else 'differs'}")
    if not passes or (lane == "bit" and not comparison.agrees):
        lab.fail(f"{name}: {comparison}" if not comparison.agrees else f"{name}: same tokens, other text")


def conclude(lab: Lab, prompts: list[tuple[str, Prompt, int]], bit: LaneTally, token: LaneTally) -> None:
    """Fill in the criteria with what was compared, also after an early stop."""
    lab.measure("C1", bit.share_equal, str(bit))
    lab.measure("C2", len(token.mismatches), str(token))
    lab.measure("C3", token.ties_over_cap, f"{len(token.ties)} ties in {token.tokens} tokens")
    compared, all_of_them = bit.sequences + token.sequences, 2 * len(prompts)
    lab.measure("C4", compared / all_of_them, f"{compared} of {all_of_them}")
    spoke = sum(run.cells.get("Expected Output", "") != "" for run in lab.rows)
    lab.measure("C5", spoke / len(lab.rows) if lab.rows else 0, f"{spoke} of {len(lab.rows)} comparisons")
    lab.measure("N1", token.share_equal, str(token))
    for name, tie in token.ties:
        lab.caveat(f"{name}: {tie}")
    for lane, tally in (("bit", bit), ("token", token)):
        if tally.sequences and tally.equal == tally.sequences:
            lab.observe(Finding.POSITIVE, f"{lane} lane: all {tally.tokens} tokens equal the reference's")
        for name, mismatch in tally.mismatches + (tally.ties if lane == "bit" else []):
            lab.observe(Finding.ISSUE, f"{lane} lane, {name}: {mismatch}")
