"""EXP-011: whatever a model's layers keep of a context, the engine says what mlx_lm says. Run it on your own model."""

from collections.abc import Callable

from attrs import define, frozen

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
    at_least,
    compare_with_reference,
    exactly,
    fixtures,
    must,
    nice,
)

TEXTS = fixtures(__file__, "exp_001")
REUSED_AT_ENDS = ("anywhere", "at states")

EXPERIMENT = Experiment(
    id="EXP-011",
    title="Conformance",
    sprint="4 - Every architecture",
    owner="QE",
    expected_duration="about 3 minutes quick, 20 minutes full, on 2 cores and the default model",
    objective=(
        "Prove on a model of your choice that the engine draws mlx_lm's tokens however a context is computed: alone, "
        "beside others, in chunks, beyond its windows, continued, forked and after a restart."
    ),
    hypotheses=(
        Hypothesis("A prompt gets mlx_lm's tokens alone, in a batch and where others join and leave", ("C1", "C2")),
        Hypothesis("A context that is continued, forked or read from the store goes on as a cold run", ("C1", "C3")),
        Hypothesis("The batch really was one", ("C4",)),
        Hypothesis("Contexts went beyond every window of the model", ("N2",)),
    ),
    prerequisites=Prerequisites(
        models=(
            ModelRequirement("SmolLM2-135M-Instruct", "or any other: --model PATH"),
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
            "engine = semantic.open(model, prefix_caching=False)   # what runs together\n"
            "engine = semantic.open(model, store=store)            # what is remembered, opened twice"
        ),
        data="words = ...   # EXP-001's texts one after the other, as token ids, cut to the lengths below",
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "prompt_tokens": (12, 180, 700),
            "window_tokens_at_most": 9000,
            "max_new_tokens": 48,
            "remembered_tokens": 600,
            "turn_tokens": 40,
            "join_every": 3,
        },
        steps=(
            Step("Say which way the model runs, and why", "engine.profile"),
            Step("Run each prompt alone, one of them longer than the longest window", "engine.generate(prompt)"),
            Step("Run them at once, and with one joining after every few tokens of the first", "engine.submit(prompt)"),
            Step("Continue a context, and fork it: two prompts with the same beginning at once", "batch_generate"),
            Step("Open another engine on the same store and continue again", "usage.cached_tokens > 0"),
            Step("Hold each against mlx_lm's run on the whole context", "compare_with_reference(done, expected)"),
        ),
        measurement=(
            "# Drawn tokens up to the first divergence. A divergence counts as a tie by ADR 0004's bound only.\n"
            "# Tokens hide small mistakes: tests/conformance compares log-probabilities on tiny models as well."
        ),
    ),
    criteria=(
        must("C1", "Sequences that differ from mlx_lm's other than by a tie", exactly(0)),
        must("C2", "Ties beyond one for each started 10,000 tokens", exactly(0)),
        must("C3", "Contexts of which nothing came back from the store, though it can be kept", exactly(0)),
        must("C4", "Sequences running at once, where they join and leave", at_least(2)),
        nice("N1", "Sequences that equal mlx_lm's", exactly(1, "of all")),
        nice("N2", "Windows of the model that no context went beyond", exactly(0)),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "Sequences differ in a batch and not alone",
                "Read the lane in the observations; run again with SEMANTIC_EXACTNESS=bit, which runs one by one",
                "Any such sequence: a lane was chosen that does not serve the model; please report it",
            ),
            FailureScenario(
                "Contexts differ only when continued or after a restart",
                "Run again with SEMANTIC_PREFIX_CACHING=false; look at which layers keep more than keys and values",
                "Any such sequence: state was taken up that is not the context's",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "12 new tokens at most, prompts of up to 180 tokens, windows of up to 600",
            {
                "max_new_tokens": 12,
                "prompt_tokens": (12, 60, 180),
                "window_tokens_at_most": 600,
                "remembered_tokens": 270,
            },
        ),
        Profile("full", "48 new tokens at most, prompts of up to 700 tokens, windows of up to 9,000"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Add the model to tests/tiny_zoo, if its caches are of a new composition",
        future="Repeat with quantised keys and values",
    ),
    related=Related(adrs=("ADR-0004", "ADR-0012", "ADR-0015"), experiments=("EXP-001", "EXP-004")),
)


@frozen
class Case:
    """A context and how many tokens shall follow it."""

    name: str
    token_ids: tuple[int, ...]
    max_tokens: int


@define
class Notebook:
    """What was counted."""

    together: int = 0
    nothing_came_back: int = 0
    windows_not_exceeded: int = 0


def run(lab: Lab) -> None:
    """What runs together, then what is remembered."""
    notes = Notebook()
    try:
        with lab.engines.open(prefix_caching=False) as engine:
            describe(lab, engine)
            cases = make_cases(lab, engine, notes)
            for kind, carry_out in TOGETHER.items():
                with lab.run(kind):
                    for case, done in zip(cases, carry_out(lab, engine, cases, notes), strict=True):
                        hold(lab, notes, kind, case, done)
        with lab.stores.place() as store:
            remembered(lab, store, notes)
    finally:
        conclude(lab, notes)


def describe(lab: Lab, engine: EngineFace) -> None:
    """Which way the model runs."""
    profile = engine.profile
    kinds = ", ".join(sorted({str(layer.kind) for layer in profile.cache_spec.layers}))
    lab.observe(
        Finding.POSITIVE,
        f"{profile.name} runs {profile.batching} over {profile.cache_layout} caches ({kinds} layers), "
        f"contexts are taken up {profile.reuse}, prefill in chunks of {profile.prefill_step_size}",
    )


def words(engine: EngineFace, count: int, start: int = 0) -> tuple[int, ...]:
    """So many token ids of English and code, from the ``start``-th on."""
    ids = [token for _, text, *_ in TEXTS.PROMPTS if isinstance(text, str) for token in engine.encode(text)]
    while len(ids) < start + count:
        ids += ids
    return tuple(ids[start : start + count])


def make_cases(lab: Lab, engine: EngineFace, notes: Notebook) -> list[Case]:
    """Prompts of the lengths asked for, and one beyond the longest window, if the profile allows one so long."""
    longest = lab.parameters["max_new_tokens"]
    lengths = list(lab.parameters["prompt_tokens"])
    windows = {layer.window for layer in engine.profile.cache_spec.layers if layer.window is not None}
    allowed = {window for window in windows if window < lab.parameters["window_tokens_at_most"]}
    notes.windows_not_exceeded = len(windows - allowed)
    if allowed and max(allowed) >= max(lengths):
        lengths.append(max(allowed) + 20)
    return [
        Case(f"{length} tokens", words(engine, length, start=7 * number), max(2, longest - number * longest // 6))
        for number, length in enumerate(lengths)
    ]


def alone(lab: Lab, engine: EngineFace, cases: list[Case], notes: Notebook) -> list[Completion]:
    """One after the other."""
    return [engine.generate(case.token_ids, max_tokens=case.max_tokens) for case in cases]


def at_once(lab: Lab, engine: EngineFace, cases: list[Case], notes: Notebook) -> list[Completion]:
    """All submitted together."""
    return engine.batch_generate([case.token_ids for case in cases], max_tokens=[case.max_tokens for case in cases])


def joining_and_leaving(lab: Lab, engine: EngineFace, cases: list[Case], notes: Notebook) -> list[Completion]:
    """One joins after every few tokens of the first; each leaves as it finishes."""
    handles = [engine.submit(cases[0].token_ids, max_tokens=cases[0].max_tokens)]
    waiting = list(cases[1:])
    for number, _ in enumerate(handles[0]):
        if number % lab.parameters["join_every"] == 0 and waiting:
            case = waiting.pop(0)
            handles.append(engine.submit(case.token_ids, max_tokens=case.max_tokens))
        notes.together = max(notes.together, engine.stats().running)
    handles += [engine.submit(case.token_ids, max_tokens=case.max_tokens) for case in waiting]
    return [handle.result(timeout=3600) for handle in handles]


TOGETHER: dict[str, Callable[[Lab, EngineFace, list[Case], Notebook], list[Completion]]] = {
    "alone": alone,
    "at once": at_once,
    "joining and leaving": joining_and_leaving,
}


def remembered(lab: Lab, store: str, notes: Notebook) -> None:
    """A context that goes on, in two directions at once, and again in another engine on the same store."""
    with lab.engines.open(store=store) as engine:
        context = words(engine, lab.parameters["remembered_tokens"], start=3)
        with lab.run("continued"):
            first = turn(lab, engine, notes, "continued", [context])[0]
        with lab.run("forked"):
            ways = [first + words(engine, lab.parameters["turn_tokens"], start=at) for at in (100, 200)]
            ends = turn(lab, engine, notes, "forked", ways)
        engine.flush()
    with lab.engines.open(store=store) as engine, lab.run("after a restart"):
        for end in ends:
            more = end + words(engine, lab.parameters["turn_tokens"], start=300)
            turn(lab, engine, notes, "after a restart", [more], expect_cached=True)


def turn(
    lab: Lab,
    engine: EngineFace,
    notes: Notebook,
    kind: str,
    contexts: list[tuple[int, ...]],
    *,
    expect_cached: bool = False,
) -> list[tuple[int, ...]]:
    """Run these contexts at once; what each has become."""
    cases = [Case(f"{len(context)} tokens", context, lab.parameters["max_new_tokens"]) for context in contexts]
    completions = at_once(lab, engine, cases, notes)
    for case, done in zip(cases, completions, strict=True):
        hold(lab, notes, kind, case, done)
        can_be_kept = engine.profile.reuse in REUSED_AT_ENDS
        if expect_cached and can_be_kept and not done.usage.cached_tokens:
            notes.nothing_came_back += 1
            lab.fail(f"{kind}, {case.name}: nothing came back from the store")
    return [(*case.token_ids, *done.token_ids) for case, done in zip(cases, completions, strict=True)]


def hold(lab: Lab, notes: Notebook, kind: str, case: Case, done: Completion) -> None:
    """Against mlx_lm's run on the whole context."""
    expected = lab.reference.expected(case.token_ids, max_tokens=case.max_tokens)
    comparison = compare_with_reference(done, expected)
    passes = lab.compare(f"{case.name}, {kind}", comparison)
    lab.row(
        **{
            "Scenario": kind,
            "Context": case.name,
            "New tokens": len(done.token_ids),
            "Cached tokens": done.usage.cached_tokens,
            "Match?": comparison.agrees,
            "Divergence": comparison.first_divergence,
        }
    )
    if not passes:
        lab.fail(f"{case.name}, {kind}: {comparison}")


def conclude(lab: Lab, notes: Notebook) -> None:
    """Fill in the criteria with what was compared, also after an early stop."""
    tally = lab.tally()
    lab.measure("C1", len(tally.mismatches) if tally.sequences else 1, str(tally))
    lab.measure("C2", tally.ties_over_cap, f"{len(tally.ties)} ties in {tally.tokens} tokens")
    lab.measure("C3", notes.nothing_came_back, "contexts continued by another engine on the same store")
    lab.measure("C4", notes.together, "at most, while the first one's tokens came")
    lab.measure("N1", tally.share_equal, str(tally))
    lab.measure("N2", notes.windows_not_exceeded, f"windows of {lab.parameters['window_tokens_at_most']} or more")
    for label, tie in tally.ties:
        lab.caveat(f"{label}: {tie}")
    for label, mismatch in tally.mismatches:
        lab.observe(Finding.ISSUE, f"{label}: {mismatch}")
