"""EXP-016: agents at work: what memory is worth over a whole scenario, and that it changes nothing that is said."""

from statistics import median

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
    at_most,
    exactly,
    fixtures,
    must,
    nice,
)

FIXTURES = fixtures(__file__, "exp_016")
Notes, Pair = FIXTURES.Notes, FIXTURES.Pair

PRIMING, CROSS, REPEATS = "priming", "cross queries", "repeats"

EXPERIMENT = Experiment(
    id="EXP-016",
    title="Agents at work",
    sprint="5 - Under load",
    owner="ML",
    expected_duration="about 5 minutes quick, 20 minutes full, on 2 cores",
    objective=(
        "Measure the time to first token of agents over two whole scenarios, phase by phase, with memory and without, "
        "and prove that memory changes nothing that is said and that no turn computes more than its message."
    ),
    hypotheses=(
        Hypothesis(
            "Every reply is the one without memory, except at near-ties of the reference (ADR 0004)", ("C1", "C2")
        ),
        Hypothesis("From an agent's second turn on, a turn computes its message and the template around it", ("C3",)),
        Hypothesis("From the second phase on, the first token comes in well under half of the time", ("C4", "C6")),
        Hypothesis("A query that an expert has answered before costs a few decode steps", ("N1",)),
        Hypothesis("Against mlx_lm, which is given everything again, it comes ten times sooner", ("N2",)),
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
            "semantic.application.agent:Agent",
            "semantic.application.prefix_cache:PrefixCache",
        ),
    ),
    method=Method(
        environment=(
            "engine = semantic.open('smollm2-135m')                        # with memory\n"
            "plain = semantic.open('smollm2-135m', prefix_caching=False)   # is given the full history each time\n"
            "# and mlx_lm in a process of its own, for the last turn of each phase"
        ),
        data=(
            "# fixtures/exp_016_inquiry.toml: 4 agents who share a case file, 25 turns in 5 phases; contexts grow,\n"
            "# and messages quote what others said. fixtures/exp_016_experts.toml: 10 experts, each primed with an\n"
            "# excerpt of fixtures/corpus, a question each, and a cross query that quotes a colleague.\n"
            "# The shapes are those of arXiv 2603.04428; the texts are our own."
        ),
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "max_new_tokens": 48,
            "primed_tokens": (2000, 4000),
            "experts": 10,
            "memory": "3GB",
            "ask_mlx_lm": True,
        },
        steps=(
            Step(
                "The inquiry: each turn with memory, and the same token ids without, which of them first alternating",
                "prompt = engine.encode([*agent.history, message])\nagent.chat(message); plain.generate(prompt)",
            ),
            Step(
                "The experts: prime each with its text and a question; then send each the cross query, with what "
                "the expert before it has answered; then return each to where it was primed, and send the same again",
                "agent.checkpoint('primed'); agent.chat(cross); agent.rewind('primed'); agent.chat(cross)",
            ),
            Step(
                "Where a phase ends, ask mlx_lm for the first token of the same prompt",
                "reference.timed(prompt, max_tokens=2).ttft_s",
            ),
        ),
        measurement=(
            "# Computed: prompt tokens less usage.cached_tokens. Allowed: tokens of the message, and those that the\n"
            "# template puts around two messages; or, where what was known is rendered otherwise than it was drawn,\n"
            "# all behind the first token that differs.\n"
            "# The time of a phase is the median of its turns' ratios; of the five phases the worst one counts.\n"
            "# A decode step is 1 / timings.decode_tokens_per_s of the same turn."
        ),
    ),
    criteria=(
        must("C1", "Replies that differ from those without memory other than by a tie", exactly(0)),
        must("C2", "Ties beyond one for each started 10,000 tokens", exactly(0)),
        must("C3", "Most tokens that a turn after an agent's first computed beyond its message", at_most(0, "tokens")),
        must("C4", "Time to first token with memory over without, in the worst of phases 2 to 5", at_most(0.5)),
        must("C5", "Turns taken, of those in the scenarios", exactly(1, "of all")),
        must("C6", "Time to first token with memory over without, cross queries", at_most(0.3)),
        nice("N1", "Time to first token of a repeated query", at_most(3, "decode steps")),
        nice("N2", "Time to first token with memory over mlx_lm's, at the ends of phases 2 to 5", at_most(0.1)),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "A reply differs",
                "Repeat with one agent; hold its blocks against freshly computed ones (EXP-005, EXP-006)",
                "Any such reply: escalate to PM, memory changes what a model says",
            ),
            FailureScenario(
                "A turn computes more than its message",
                "Look at agent.history.diverged and cache.block.lost in the log, and at evicted_blocks in stats()",
                "If it is more than a block",
            ),
            FailureScenario(
                "It is not faster",
                "Look at the computed tokens first: time without tokens is the store's, or another program's",
                "If tokens are right and the ratio is above 0.5 on a quiet machine",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "8 new tokens a turn; experts primed with about 1,000 tokens where the published shape has 2,000 to 4,000",
            {"max_new_tokens": 8, "primed_tokens": (900, 1100), "memory": "2GB"},
        ),
        Profile("full", "48 new tokens a turn; experts primed with 2,000 to 4,000 tokens"),
    ),
    next_steps=NextSteps(
        immediate="Hold the ratios against the benchmark's (make bench)",
        sprint="Repeat with a memory budget that holds three of ten experts, and a store",
        future="Repeat with a model of 8 or 12 billion parameters on Metal, where the published numbers come from",
    ),
    related=Related(adrs=("ADR-0004", "ADR-0010"), experiments=("EXP-005", "EXP-006")),
)


def run(lab: Lab) -> None:
    """The inquiry, then the experts."""
    notes = Notes()
    try:
        for number, shape in enumerate((inquiry, experts)):
            lab.progress(shape.__name__, number, 2)
            with (
                lab.engines.open(memory=lab.parameters["memory"]) as remembering,
                lab.engines.open(prefix_caching=False) as plain,
            ):
                warm_up(remembering, plain)
                shape(lab, Pair(lab, notes, remembering, plain))
    finally:
        if notes.taken:
            with lab.run("by phase"):
                FIXTURES.report_phases(lab, notes)
        conclude(lab, notes)


def warm_up(*engines: EngineFace) -> None:
    """The first forward of a model compiles and allocates."""
    for engine in engines:
        engine.generate([3, 5, 8, 13, 21, 34], max_tokens=2)


def inquiry(lab: Lab, pair: "Pair") -> None:
    """Five phases, in which agents hear what others said."""
    scenario = FIXTURES.inquiry()
    said = dict.fromkeys(scenario.agents, "")
    agents = {name: pair.remembering.agent(name, system=system) for name, system in scenario.agents.items()}
    for number, phase in enumerate(scenario.phases, 1):
        label = f"{number} {phase.name}"
        with lab.run(label):
            for turn, (name, message) in enumerate(phase.turns, 1):
                lab.progress(f"{label}, turn {turn}", number - 1, len(scenario.phases))
                is_last = turn == len(phase.turns)
                said[name] = pair.take(
                    label, agents[name], message.format_map(said), ask_mlx_lm=is_last and lab.parameters["ask_mlx_lm"]
                )


def experts(lab: Lab, pair: "Pair") -> None:
    """Priming, cross queries, and the same ones again."""
    found = FIXTURES.experts(pair.remembering, lab.parameters["primed_tokens"])[: lab.parameters["experts"]]
    agents = [pair.remembering.agent(expert.name, system=expert.text) for expert in found]
    ask_mlx_lm = lab.parameters["ask_mlx_lm"]
    answers = []
    with lab.run(PRIMING):
        for expert, agent in zip(found, agents, strict=True):
            lab.progress(f"{PRIMING}, {expert.name}", len(answers), 3 * len(found))
            answers.append(pair.take(PRIMING, agent, expert.question))
            agent.checkpoint("primed")
    queries = [expert.cross.format(answer=answers[number - 1]) for number, expert in enumerate(found)]
    for phase in (CROSS, REPEATS):
        with lab.run(phase):
            for number, (query, agent) in enumerate(zip(queries, agents, strict=True)):
                lab.progress(f"{phase}, {agent.name}", number, len(found))
                agent.rewind("primed")
                pair.take(phase, agent, query, ask_mlx_lm=ask_mlx_lm and phase == CROSS and number == len(found) - 1)


def conclude(lab: Lab, notes: "Notes") -> None:
    """Fill in the criteria, also after an early stop."""
    tally, by_phase = lab.tally(), dict(notes.phases())
    lab.measure("C1", len(tally.mismatches) if tally.sequences else 1, str(tally))
    lab.measure("C2", tally.ties_over_cap, f"{len(tally.ties)} ties in {tally.tokens} tokens")
    later = [one.beyond for one in notes.taken if not one.is_first]
    if later:
        evidence = f"{len(later)} turns; {notes.rendered_differently} known tokens were rendered otherwise"
        lab.measure("C3", max(0, *later), evidence)
    planned = sum(len(phase.turns) for phase in FIXTURES.inquiry().phases) + 3 * lab.parameters["experts"]
    lab.measure("C5", len(notes.taken) / planned, f"{len(notes.taken)} of {planned}")
    growing = {name: taken for name, taken in by_phase.items() if name[:1] in "2345"}
    if len(growing) == 4:
        ratios = {name: median(one.ratio for one in taken) for name, taken in growing.items()}
        lab.measure("C4", max(ratios.values()), ", ".join(f"{name}: {ratio:.3f}" for name, ratio in ratios.items()))
        ends = [one.with_s / one.mlx_lm_s for taken in growing.values() for one in taken if one.mlx_lm_s]
        if ends:
            lab.measure("N2", median(ends), f"median of {len(ends)} turns, {min(ends):.3f} to {max(ends):.3f}")
    if CROSS in by_phase:
        lab.estimate("cross queries, with memory over without", [one.ratio for one in by_phase[CROSS]], criterion="C6")
    steps = [one.with_s / one.step_s for one in by_phase.get(REPEATS, ()) if one.step_s]
    if steps:
        lab.measure("N1", median(steps), f"median of {len(steps)}, {min(steps):.1f} to {max(steps):.1f}")
    for label, tie in tally.ties:
        lab.caveat(f"{label}: {tie}")
    for label, mismatch in tally.mismatches:
        lab.observe(Finding.ISSUE, f"{label}: {mismatch}")
