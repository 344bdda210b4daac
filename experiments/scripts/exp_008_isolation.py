"""EXP-008: nothing computed for one namespace, or by one model, is ever used for another."""

from statistics import median

from attrs import define, field

from semantic.experiments import (
    Change,
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
    exactly,
    must,
    nice,
)

CHANGES = (Change.WEIGHT, Change.TEMPLATE, Change.COMPUTE_DTYPE, Change.LAYOUT, Change.LANE)

EXPERIMENT = Experiment(
    id="EXP-008",
    title="Isolation",
    sprint="3 - Agents remember",
    owner="QE",
    expected_duration="about 2 minutes quick, 15 minutes full, on 2 cores",
    objective=(
        "Prove that text which another namespace or another model has cached is computed anew, and that its time "
        "to first token does not tell that it was cached elsewhere."
    ),
    hypotheses=(
        Hypothesis("A namespace uses nothing of another's, neither from memory nor from the store", ("C1", "C3", "C4")),
        Hypothesis(
            "A model with one other weight, chat template, compute dtype, cache layout or lane uses nothing of the "
            "first one's, although the text is the same",
            ("C2", "C3", "C4"),
        ),
        Hypothesis(
            "The time to first token of text that another namespace has cached is that of unseen text",
            ("C5", "C6", "N1"),
        ),
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
            "semantic.domain.value_objects:CacheContext",
            "semantic.application.prefix_cache:PrefixCache",
        ),
    ),
    method=Method(
        environment=(
            "engine = semantic.open('smollm2-135m', store=folder)\n"
            "# changed models in processes of their own, one after the other, on one store:\n"
            "model, tokenizer = semantic.load('smollm2-135m')\n"
            "norm.weight[0] += 0.001                       # one weight\n"
            "tokenizer.chat_template += '{# ... #}'        # a template that says the same\n"
            "semantic.open(..., compute_dtype='bfloat16')  # and cache_layout='contiguous', exactness='bit'"
        ),
        data="prompt = [random token id for _ in range(n)]   # as ids, so that all are given the very same tokens",
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "prompt_tokens": 600,
            "changed_prompt_tokens": 64,
            "pairs": 30,
            "paired_tokens": 600,
        },
        steps=(
            Step(
                "Compute a prompt in one namespace, ask for it in another, then in the first again; repeat with a new "
                "engine on the same store",
                "engine.generate(prompt, namespace='two').usage.cached_tokens == 0",
            ),
            Step(
                "Compute a prompt with the model, then with each changed one on the same store, then with the model "
                "again, loaded another way: that it finds its own shows that the store still had it",
                "process.generate(prompt).usage.cached_tokens; process.loaded_blocks()",
            ),
            Step(
                "In pairs: a text that the other namespace has just cached, and one that nobody has seen; which comes "
                "first alternates",
                "ratio = ttft(cached elsewhere) / ttft(unseen)",
            ),
            Step("As a control, the time of the cached text in its own namespace"),
        ),
        measurement=(
            "# Reused: usage.cached_tokens. Loaded: blocks read from the store.\n"
            "# Indistinguishable: the 99% bootstrap interval of the median ratio contains 1, or misses it by less\n"
            "# than 2%. The control shows that a hit would have been seen.\n"
            "# The bit lane takes a context up only behind chunks of 2,048 tokens: it can't be its own control.\n"
            "# Keys and values have no precision of their own in this version: it is the compute dtype."
        ),
    ),
    criteria=(
        must("C1", "Tokens reused from another namespace", exactly(0)),
        must("C2", "Tokens reused from another model", exactly(0)),
        must("C3", "Blocks loaded by those who may not use them", exactly(0)),
        must("C4", "Controls that found their own text again", exactly(1, "of all")),
        must("C5", "How far the interval of ttft(cached elsewhere) / ttft(unseen) lies from 1", at_most(0.02)),
        must("C6", "Control: ttft(cached here) / ttft(unseen), median", at_most(0.5)),
        nice("N1", "How far the median of ttft(cached elsewhere) / ttft(unseen) is from 1", at_most(0.05)),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "Something is reused",
                "Print both contexts and roots; look for the field that is missing in CacheContext",
                "Any token: escalate to PM, one tenant's text may be answered to another",
            ),
            FailureScenario(
                "The times differ",
                "Compare steps and prefilled tokens of both; look for work that depends on what others have cached",
                "If the interval excludes 1 in two runs",
            ),
            FailureScenario(
                "A control finds nothing",
                "The store or the index loses blocks: run EXP-005 and EXP-007 first",
                "None: the experiment says nothing until it is repaired",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "16 pairs of 300 tokens",
            {"pairs": 16, "paired_tokens": 300, "prompt_tokens": 300},
        ),
        Profile("full", "30 pairs of 600 tokens"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Repeat with a LoRA adapter, which the identity of blocks knows and this does not try",
        future="Measure decode beside a namespace that evicts",
    ),
    related=Related(adrs=("ADR-0008", "ADR-0018"), experiments=("EXP-006",)),
)


@define
class Notes:
    """What was reused by whom."""

    by_namespaces: list[int] = field(factory=list)
    by_models: list[int] = field(factory=list)
    loaded: list[int] = field(factory=list)
    controls: list[bool] = field(factory=list)
    ratios: list[float] = field(factory=list)
    control_ratios: list[float] = field(factory=list)


def run(lab: Lab) -> None:
    """Namespaces, changed models, times."""
    notes = Notes()
    total = 2 + len(CHANGES) + 2 + lab.parameters["pairs"]
    try:
        with lab.stores.place() as store:
            prompt = unseen(lab, lab.parameters["prompt_tokens"])
            for number, label in enumerate(("namespaces", "namespaces, from the store")):
                lab.progress(label, number, total)
                with lab.run(label):
                    try_namespaces(lab, notes, store, prompt, known=number > 0)
        with lab.stores.place() as store:
            prompt = unseen(lab, lab.parameters["changed_prompt_tokens"])
            for number, change in enumerate((Change.NONE, *CHANGES, Change.RELOADED)):
                lab.progress(f"model with {change} changed", 2 + number, total)
                with lab.run(f"model, changed: {change}"):
                    try_model(lab, notes, store, prompt, change)
        with lab.engines.open() as engine, lab.run("times"):
            engine.generate(unseen(lab, 40), max_tokens=2)
            for number in range(lab.parameters["pairs"]):
                lab.progress("times", total - lab.parameters["pairs"] + number, total)
                take_pair(lab, notes, engine, cached_first=number % 2 == 0)
    finally:
        conclude(lab, notes)


def unseen(lab: Lab, num_tokens: int) -> list[int]:
    """Token ids that were never drawn before."""
    return [lab.random.randrange(3, 250) for _ in range(num_tokens)]


def try_namespaces(lab: Lab, notes: Notes, store: str, prompt: list[int], *, known: bool) -> None:
    """One computes it, unless its store has it already; another must not find it; the first must."""
    with lab.engines.open(store=store) as engine:
        if not known:
            engine.generate(prompt, max_tokens=2, namespace="one")
        before = engine.stats().loaded_blocks
        for namespace in ("two", "three"):
            # each new engine asks in namespaces that have never computed it
            reused = engine.generate(prompt, max_tokens=2, namespace=f"{namespace}, {known}").usage.cached_tokens
            notes.by_namespaces.append(reused)
            lab.row(Who=f"namespace {namespace}", Reused=reused, Of=len(prompt))
            if reused:
                lab.fail(f"namespace {namespace} reused {reused} tokens of another")
        notes.loaded.append(engine.stats().loaded_blocks - before)
        control(lab, notes, "its own namespace", engine.generate(prompt, max_tokens=2, namespace="one"))


def control(lab: Lab, notes: Notes, who: str, completion: Completion) -> None:
    """Who has computed it finds all but the last token."""
    usage = completion.usage
    notes.controls.append(usage.cached_tokens == usage.prompt_tokens - 1)
    lab.row(Who=who, Reused=usage.cached_tokens, Of=usage.prompt_tokens)
    if not notes.controls[-1]:
        lab.fail(f"{who} found {usage.cached_tokens} of {usage.prompt_tokens} tokens again")


def try_model(lab: Lab, notes: Notes, store: str, prompt: list[int], change: Change) -> None:
    """The same tokens on the same store, by a model that differs in one thing, or in nothing."""
    process = lab.processes.start(store, change)
    try:
        completion = process.generate(prompt, max_tokens=2)
        loaded = process.loaded_blocks()
        again = process.generate(prompt, max_tokens=2)
    finally:
        process.close()
    lab.log(f"{change}: {completion.usage}, {loaded} blocks loaded")
    if change is not Change.LANE:
        control(lab, notes, f"{change}, its own text", again if change is not Change.RELOADED else completion)
    if change is not Change.RELOADED:
        reused = completion.usage.cached_tokens
        notes.by_models.append(reused)
        notes.loaded.append(loaded)
        lab.row(Who=f"changed: {change}", Reused=reused, Of=len(prompt))
        if reused or loaded:
            lab.fail(f"with {change} changed, {reused} tokens and {loaded} blocks were reused")


def take_pair(lab: Lab, notes: Notes, engine: EngineFace, *, cached_first: bool) -> None:
    """Text that another namespace has just computed, and text that nobody has, in this or the other order."""
    elsewhere, new = (unseen(lab, lab.parameters["paired_tokens"]) for _ in range(2))
    engine.generate(elsewhere, max_tokens=1, namespace="victim")
    engine.generate(unseen(lab, 40), max_tokens=1)  # so that neither of the two follows on the victim
    order = (elsewhere, new) if cached_first else (new, elsewhere)
    times = [engine.generate(prompt, max_tokens=1, namespace="curious").timings.ttft_s for prompt in order]
    cached_s, new_s = times if cached_first else times[::-1]
    here_s = engine.generate(elsewhere, max_tokens=1, namespace="victim").timings.ttft_s
    notes.ratios.append(cached_s / new_s)
    notes.control_ratios.append(here_s / new_s)
    lab.row(
        **{
            "First": "cached elsewhere" if cached_first else "unseen",
            "Cached elsewhere (s)": cached_s,
            "Unseen (s)": new_s,
            "Cached here (s)": here_s,
            "Ratio": cached_s / new_s,
        }
    )


def conclude(lab: Lab, notes: Notes) -> None:
    """Fill in the criteria with what was seen, also after an early stop."""
    if notes.by_namespaces:
        lab.measure("C1", sum(notes.by_namespaces), f"{len(notes.by_namespaces)} requests in other namespaces")
    if len(notes.by_models) == 1 + len(CHANGES):
        lab.measure("C2", sum(notes.by_models), f"{len(CHANGES)} changed models, and one on an empty store")
    if notes.loaded:
        lab.measure("C3", sum(notes.loaded), f"{len(notes.loaded)} engines")
    planned = 2 + len(CHANGES) + 1
    lab.measure("C4", sum(notes.controls) / planned, f"{sum(notes.controls)} of {planned}")
    if notes.ratios:
        figure = "Time to first token over that of unseen text"
        estimate = lab.estimate("cached elsewhere", notes.ratios, figure=figure, limit=1, confidence=0.99)
        lab.estimate("cached here", notes.control_ratios, figure=figure, limit=1)
        evidence = f"median {estimate} (99% bootstrap) of {len(notes.ratios)} pairs"
        lab.measure("C5", max(0.0, estimate.low - 1, 1 - estimate.high), evidence)
        lab.measure("C6", median(notes.control_ratios), f"{len(notes.control_ratios)} hits")
        lab.measure("N1", abs(estimate.median - 1), evidence)
        if estimate.high - estimate.low > 0.2:
            lab.observe(Finding.ANOMALY, f"the interval {estimate} is wide: run it again with more pairs")
