"""EXP-006: ten agents with one system prompt compute it once, store it once, and hold it in memory once."""

from collections.abc import Sequence

from attrs import define, field

from semantic.experiments import (
    AgentFace,
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

FIXTURES = fixtures(__file__, "exp_006")

EXPERIMENT = Experiment(
    id="EXP-006",
    title="Sharing",
    sprint="3 - Agents remember",
    owner="SE",
    expected_duration="about 2 minutes quick, 5 minutes full, on 2 cores",
    objective=(
        "Prove that agents with one system prompt, and requests with one prefix that arrive together, compute it "
        "once and keep it once, in memory and on disk, and still say what each says alone."
    ),
    hypotheses=(
        Hypothesis("Ten agents' system prompt of 1,000 tokens is prefilled once", ("C1", "C7")),
        Hypothesis("It is in memory once, with pages also while all ten are live", ("C2", "C7")),
        Hypothesis("It is on disk once", ("C3",)),
        Hypothesis("A prefix of 60 tokens, and one of 1,000, of ten simultaneous requests is prefilled once", ("C4",)),
        Hypothesis("All say what they say alone, except at near-ties of the reference (ADR 0004)", ("C5", "C6")),
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
            "semantic.application.joining:Joining",
        ),
    ),
    method=Method(
        environment=(
            "engine = semantic.open('smollm2-135m', store=folder, max_num_seqs=10,\n"
            "                       max_token_gap_ms=0)   # whole chunks, so that all begin together\n"
            "alone = semantic.open('smollm2-135m', prefix_caching=False)   # what each says without sharing"
        ),
        data=(
            "agents = [engine.agent(name, system=RULES) for name in names]   # one system prompt, ten questions\n"
            "prompts = [prefix + question for question in questions]          # plain requests, as token ids"
        ),
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "agents": 10,
            "system_tokens": 1000,
            "prefixes": (60, 1000),
            "max_new_tokens": 48,
            "compare_every": 1,
        },
        steps=(
            Step("Let one agent talk, on a store of its own: the bytes of one copy", "one.chat(question)"),
            Step(
                "Let all talk at once; read the counters while all of them are live, after the first token of each",
                "streams = [agent.stream(question) for agent, question in pairs]",
            ),
            Step("Flush, close, and read the store's bytes", "store.stats().bytes"),
            Step(
                "For each prefix submit all requests at once to a fresh engine",
                "engine.batch_generate(prompts, max_tokens=n)",
            ),
            Step(
                "Run each prompt alone without the prefix cache, and compare", "compare_with_solo(shared, alone, ...)"
            ),
        ),
        measurement=(
            "# Prefilled beyond once: prefilled tokens, less the prefix once, less what each prompt has behind it\n"
            "# (all but its last token, which is the first decode row).\n"
            "# Bytes over one copy: (bytes - tails) / bytes of the prefix alone. A tail is what a context has behind\n"
            "# the last block that all share as a whole: of a block that they part in, each has its own. A live\n"
            "# context holds the blocks of all the tokens that it may grow to."
        ),
    ),
    criteria=(
        must("C1", "Tokens that ten agents prefilled beyond once", exactly(0)),
        must("C2", "Bytes in memory over one copy and tails", at_most(1.1, "copies")),
        must("C3", "Bytes on disk over one copy and tails", at_most(1.1, "copies")),
        must("C4", "Tokens that ten simultaneous requests prefilled beyond once", exactly(0)),
        must("C5", "Replies that differ from what each says alone other than by a tie", exactly(0)),
        must("C6", "Ties beyond one for each started 10,000 tokens", exactly(0)),
        must("C7", "Agents that were live at once", exactly(1, "of all")),
        nice("N1", "Replies that equal what each says alone", exactly(1, "of all")),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "The prefix is prefilled more than once",
                "Log who was held back and for whom; compare with the chunks of the first",
                "If more than one block is prefilled twice",
            ),
            FailureScenario(
                "Memory or disk holds more than one copy",
                "List the blocks by parent: which tokens are there twice, and who refers to them?",
                "If it grows with the number of agents",
            ),
            FailureScenario(
                "A reply differs",
                "Run the same without sharing (EXP-004); if that is right, look at the copied head of the last block",
                "Any such reply: one agent's context may have leaked into another's",
            ),
        ),
    ),
    profiles=(
        Profile("quick", "24 new tokens; every third compared", {"max_new_tokens": 24, "compare_every": 3}),
        Profile("full", "48 new tokens; all compared"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Repeat with a model with windows or recurrent state, which shares at kept states only",
        future="Repeat with a hundred branches of one agent",
    ),
    related=Related(adrs=("ADR-0004", "ADR-0008", "ADR-0011"), experiments=("EXP-004", "EXP-008")),
)


@define
class Notes:
    """What is said when shared, to be held against what is said alone."""

    said: list[tuple[str, list[int], Completion]] = field(factory=list)
    requests_beyond_once: list[int] = field(factory=list)


def run(lab: Lab) -> None:
    """Ten agents; ten requests; each alone."""
    notes, prefixes = Notes(), lab.parameters["prefixes"]
    total = 3 + len(prefixes)
    try:
        with lab.run("one agent"):
            lab.progress("one agent", 0, total)
            disk_bytes_per_token = one_agent(lab)
        if not lab.crashed_runs:
            with lab.run("ten agents"):
                lab.progress("ten agents", 1, total)
                ten_agents(lab, notes, disk_bytes_per_token)
        for number, length in enumerate(prefixes):
            with lab.run(f"requests with a prefix of {length} tokens"):
                lab.progress(f"prefix of {length}", 2 + number, total)
                ten_requests(lab, notes, length)
        with lab.run("each alone"):
            lab.progress("each alone", total - 1, total)
            compare_alone(lab, notes)
    finally:
        conclude(lab, notes)


def one_agent(lab: Lab) -> float:
    """What a token takes on disk, file headers included."""
    with lab.stores.place() as store:
        with lab.engines.open(store=store, max_num_seqs=lab.parameters["agents"]) as engine:
            system = FIXTURES.text_of(engine, lab.parameters["system_tokens"])
            agent = engine.agent("alone", system=system)
            agent.chat(FIXTURES.QUESTIONS[0], max_tokens=lab.parameters["max_new_tokens"])
            engine.flush()
            tokens = len(agent.tokens)
        nbytes = disk_bytes(lab, store)
    lab.log(f"one agent: {tokens} tokens, {nbytes:,} bytes on disk")
    return nbytes / tokens


def ten_agents(lab: Lab, notes: Notes, disk_bytes_per_token: float) -> None:
    """All at once: what they prefill, hold, and leave on disk."""
    count = lab.parameters["agents"]
    with lab.stores.place() as store:
        with lab.engines.open(store=store, max_num_seqs=count, max_token_gap_ms=None) as engine:
            system = FIXTURES.text_of(engine, lab.parameters["system_tokens"])
            agents = [engine.agent(f"agent {number}", system=system) for number in range(count)]
            completions, live_bytes = talk_at_once(lab, engine, agents)
            engine.flush()
            stats, profile = engine.stats(), engine.profile
            prompts = [
                FIXTURES.prompt_of(agent, done.token_ids) for agent, done in zip(agents, completions, strict=True)
            ]
            contexts = tuple(len(agent.tokens) for agent in agents)
        on_disk = disk_bytes(lab, store)
    notes.said += [(f"agent {number}", *said) for number, said in enumerate(zip(prompts, completions, strict=True))]
    shared, block_tokens = FIXTURES.shared_tokens(prompts), profile.cache_spec.block_tokens
    on_end = FIXTURES.Footprint(shared, contexts, block_tokens)
    most = tuple(len(prompt) + lab.parameters["max_new_tokens"] for prompt in prompts)
    live = FIXTURES.Footprint(shared, most if profile.cache_layout == "paged" else contexts, block_tokens)
    beyond = stats.prefilled_tokens - prefilled_once(prompts, shared)
    lab.measure("C1", beyond, f"{stats.prefilled_tokens} tokens prefilled, {shared} are shared by {count} agents")
    block_bytes = profile.cache_spec.bytes_per_block
    in_memory = live_bytes if profile.cache_layout == "paged" else stats.cache_bytes
    copies = (in_memory / block_bytes - live.tail_blocks) / live.copy_blocks
    when = "while all were live" if profile.cache_layout == "paged" else "when all had finished"
    evidence = f"{in_memory:,} bytes {when}, {live.tail_blocks} blocks of them tails, one copy is "
    lab.measure("C2", copies, f"{evidence}{live.copy_blocks} blocks of {block_bytes:,} bytes")
    disk_copies = (on_disk / disk_bytes_per_token - on_end.tail_tokens) / shared
    lab.measure("C3", disk_copies, f"{on_disk:,} bytes, {on_end.tail_tokens} tokens of them tails")
    lab.row(
        Prefix=shared, Sequences=count, Prefilled=stats.prefilled_tokens, Beyond=beyond, Bytes=in_memory, Disk=on_disk
    )


def talk_at_once(lab: Lab, engine: EngineFace, agents: Sequence[AgentFace]) -> tuple[list[Completion], int]:
    """Everyone's first turn; the bytes of all caches when each had its first token."""
    max_tokens = lab.parameters["max_new_tokens"]
    questions = [FIXTURES.QUESTIONS[number % len(FIXTURES.QUESTIONS)] for number in range(len(agents))]
    streams = [agent.stream(question, max_tokens=max_tokens) for agent, question in zip(agents, questions, strict=True)]
    firsts = [next(stream) for stream in streams]
    stats = engine.stats()
    evidence = f"{stats.running} running when the last one had its first token"
    lab.measure("C7", stats.running / len(agents), evidence)
    lab.log(f"{evidence}: {stats.cache_bytes:,} bytes in {stats.pool_blocks_in_use} blocks")
    ends = [[first, *stream][-1] for first, stream in zip(firsts, streams, strict=True)]
    return [delta.completion for delta in ends if delta.completion is not None], stats.cache_bytes


def ten_requests(lab: Lab, notes: Notes, length: int) -> None:
    """Plain requests with one prefix, on an engine that knows nothing."""
    count = lab.parameters["agents"]
    with lab.engines.open(max_num_seqs=count) as engine:
        prefix = FIXTURES.prefix_of(engine, length)
        prompts = [[*prefix, *engine.encode(question)] for question in FIXTURES.QUESTIONS[:count]]
        completions = engine.batch_generate(prompts, max_tokens=8)
        prefilled = engine.stats().prefilled_tokens
    shared = FIXTURES.shared_tokens(prompts)
    beyond = prefilled - prefilled_once(prompts, shared)
    notes.requests_beyond_once.append(beyond)
    notes.said += [
        (f"prefix of {length}, request {number}", *said)
        for number, said in enumerate(zip(prompts, completions, strict=True))
    ]
    lab.row(Prefix=shared, Sequences=count, Prefilled=prefilled, Beyond=beyond)
    if beyond:
        lab.fail(f"{beyond} tokens of a prefix of {shared} were prefilled beyond once")


def prefilled_once(prompts: Sequence[Sequence[int]], shared: int) -> int:
    """Tokens to prefill if what all share is prefilled once."""
    return shared + sum(len(prompt) - 1 - shared for prompt in prompts)


def disk_bytes(lab: Lab, place: str) -> int:
    """Of all blocks in a store that nobody has open."""
    store = lab.stores.open(place)
    try:
        return store.stats().bytes
    finally:
        store.close()


def compare_alone(lab: Lab, notes: Notes) -> None:
    """Each prompt by itself, computed from its beginning."""
    with lab.engines.open(prefix_caching=False) as engine:
        for label, prompt, shared in notes.said[:: lab.parameters["compare_every"]]:
            alone = engine.generate(prompt, max_tokens=max(1, len(shared.token_ids) + (shared.finish_reason == "stop")))
            comparison = compare_with_solo(shared, alone, prompt, lab.reference)
            if not lab.compare(label, comparison, texts_agree=shared.text == alone.text):
                lab.fail(f"{label}: {comparison}")
            lab.row(Prefix=label, Cached=shared.usage.cached_tokens, **{"Match?": comparison.agrees})


def conclude(lab: Lab, notes: Notes) -> None:
    """Fill in the criteria, also after an early stop."""
    if len(notes.requests_beyond_once) == len(lab.parameters["prefixes"]):
        lab.measure("C4", max(notes.requests_beyond_once), f"prefixes of {lab.parameters['prefixes']} tokens")
    tally = lab.tally()
    lab.measure("C5", len(tally.mismatches) if tally.sequences else 1, str(tally))
    lab.measure("C6", tally.ties_over_cap, f"{len(tally.ties)} ties in {tally.tokens} tokens")
    lab.measure("N1", tally.share_equal, str(tally))
    for label, tie in tally.ties:
        lab.caveat(f"{label}: {tie}")
    for label, mismatch in tally.mismatches:
        lab.observe(Finding.ISSUE, f"{label}: {mismatch}")
