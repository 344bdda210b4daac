"""EXP-010: how many agents' contexts one memory budget keeps, exact and quantised at rest."""

from functools import partial

from attrs import asdict, frozen

from semantic.domain.value_objects import parse_size
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
    must,
)

KINDS = ("exact", "8", "4")
SIXTEEN_BITS = 16

EXPERIMENT = Experiment(
    id="EXP-010",
    title="Capacity",
    sprint="4 - Quantised KV",
    owner="QE",
    expected_duration="about 8 minutes quick, 1 hour full, on 2 cores",
    objective=(
        "Count how many agents' contexts stay in memory under one budget when blocks at rest are exact, in 8 bits and "
        "in 4 bits, and hold the count against what 16-bit keys and values would allow."
    ),
    hypotheses=(
        Hypothesis("Quantised contexts take the bits of their precision, scales and tails included", ("C1", "C2")),
        Hypothesis("In 4 bits at least three times as many contexts stay as in 16", ("C3",)),
        Hypothesis("The books agree with the memory that is really held", ("C4",)),
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
        components=("semantic.domain.services:BlockPool", "semantic.domain.value_objects:RestPrecision"),
    ),
    method=Method(
        environment="engine = semantic.open('smollm2-135m', memory=budget, kv_at_rest=kind)   # no store",
        data="contexts = [random_words(seed, context_tokens) for seed in range(many)]   # no two begin alike",
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "context_tokens": 2000,
            "budget": "4GB",
            "kinds": KINDS,
            "spare": 6,
        },
        steps=(
            Step(
                "Compute contexts one after the other, more of them than fit",
                "for context in contexts: engine.generate(context, max_tokens=1)",
            ),
            Step(
                "From the last one backwards, count those of which all but the last token is still there",
                "engine.generate(context, max_tokens=1).usage.cached_tokens == len(context) - 1",
            ),
            Step("Read the bytes that the memory really holds", "engine.stats().cache_bytes"),
        ),
        measurement=(
            "# What 16-bit keys and values would hold: the room for blocks over two bytes a value of a context.\n"
            "# The room is what the budget leaves beside a step's workspace: pool_total_blocks * block_bytes.\n"
            "# Stored bits per value: bytes that one more context took, over its tokens and their values.\n"
            "# C1 and C2: contexts that stayed, over 16 / stored bits times what 16 bits would hold."
        ),
    ),
    criteria=(
        must("C1", "8 bits: contexts kept, over what their bits allow", at_least(0.95)),
        must("C2", "4 bits: contexts kept, over what their bits allow", at_least(0.95)),
        must("C3", "4 bits: contexts kept, over what 16 bits would hold", at_least(3.0)),
        must("C4", "Bytes held beyond the budget, in any kind", at_most(0, "bytes")),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "Fewer contexts stay than their bits allow",
                "Compare sealed_bytes with the bytes of a sealed block; look for tails that weigh whole blocks",
                "If a context takes more than 5% beyond its codes and scales",
            ),
            FailureScenario(
                "More bytes are held than the budget",
                "Call check_integrity(); list what is held and not in the books",
                "Any byte: the budget is a bound",
            ),
        ),
    ),
    profiles=(
        Profile("quick", "contexts of 250 tokens in 400 MB", {"context_tokens": 250, "budget": "400MB"}),
        Profile("full", "contexts of 2,000 tokens in 4 GB"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Count with a store beneath, where what is evicted comes back",
        future="Repeat with windows and recurrent state",
    ),
    related=Related(adrs=("ADR-0013",), experiments=("EXP-009",)),
)


@frozen
class Kept:
    """What one kind kept: contexts, the bytes that each takes at rest, and the most bytes held at once.

    ``room_bytes``: what the budget leaves for blocks.
    """

    contexts: int
    context_bytes: float
    most_bytes: int
    room_bytes: int


def run(lab: Lab) -> None:
    """One engine for each kind."""
    budget = parse_size(lab.parameters["budget"])
    kept: dict[str, Kept] = {}
    exact_bytes = 0.0
    for kind in lab.parameters["kinds"]:
        measured = lab.step(f"at rest: {kind}", partial(count_kept, lab, kind, budget))
        if measured is not None:
            exact_bytes = measured.pop("exact_bytes")
            kept[kind] = Kept(**measured)
    judge(lab, kept, budget, exact_bytes)


def count_kept(lab: Lab, kind: str, budget: int) -> dict[str, float]:
    """Fill one engine; what stayed, as it can be kept, and the bytes of a context at 32 bits."""
    with lab.engines.open(memory=lab.parameters["budget"], kv_at_rest=kind) as engine:
        stayed = fill(lab, engine, kind, budget)
        exact_bytes = exact_context_bytes(lab, engine)
    lab.row(
        **{
            "At rest": kind,
            "Contexts kept": stayed.contexts,
            "Bytes a context": stayed.context_bytes,
            "Bits a value": 8 * stayed.context_bytes / values_in(exact_bytes),
            "Most held (MB)": stayed.most_bytes / 1e6,
        }
    )
    return {**asdict(stayed), "exact_bytes": exact_bytes}


def judge(lab: Lab, kept: dict[str, Kept], budget: int, exact_bytes: float) -> None:
    """Counts against what the bits allow."""
    room = max((one.room_bytes for one in kept.values()), default=0)
    sixteen = room / (values_in(exact_bytes) * SIXTEEN_BITS / 8) if kept else 0.0
    for criterion, kind in (("C1", "8"), ("C2", "4")):
        if kind in kept:
            bits = 8 * kept[kind].context_bytes / values_in(exact_bytes)
            allowed = sixteen * SIXTEEN_BITS / bits
            evidence = f"{kept[kind].contexts} contexts, {allowed:.1f} allowed at {bits:.2f} bits a value"
            lab.measure(criterion, kept[kind].contexts / allowed, evidence)
    if "4" in kept:
        evidence = f"{kept['4'].contexts} contexts, 16 bits would hold {sixteen:.1f}"
        lab.measure("C3", kept["4"].contexts / sixteen, evidence)
    axes = {"x_label": "bits a value", "y_label": "contexts kept"}
    for one in kept.values():
        bits = 8 * one.context_bytes / values_in(exact_bytes)
        lab.series("Contexts in one budget", "kept", **axes).add(bits, one.contexts)
        lab.series("Contexts in one budget", "allowed", **axes).add(bits, sixteen * SIXTEEN_BITS / bits)
    if kept:
        most = max(one.most_bytes for one in kept.values())
        lab.measure("C4", max(0, most - budget), f"{most:,} bytes at most, {budget:,} allowed")
        lab.observe(Finding.POSITIVE, ", ".join(f"{kind}: {one.contexts} contexts" for kind, one in kept.items()))


def fill(lab: Lab, engine: EngineFace, kind: str, budget: int) -> Kept:
    """Compute contexts until the budget has been full for a while, then count backwards."""
    tokens, contexts, most = lab.parameters["context_tokens"], 0, 0
    before = engine.stats().cache_bytes
    engine.generate(context(lab, 0), max_tokens=1)
    engine.flush()
    one = engine.stats().cache_bytes - before
    many = int(budget / one) + lab.parameters["spare"]
    for number in range(1, many):
        lab.progress(f"at rest: {kind}", number, many)
        engine.generate(context(lab, number), max_tokens=1)
        most = max(most, engine.stats().cache_bytes)
    while contexts < many:
        done = engine.generate(context(lab, many - 1 - contexts), max_tokens=1)
        if done.usage.cached_tokens < tokens - 1:
            break
        contexts += 1
    lab.log(f"{contexts} of {many} contexts of {tokens} tokens stayed; one takes {one:,} bytes at rest")
    stats = engine.stats()
    return Kept(contexts, one, most, stats.pool_total_blocks * stats.block_bytes)


def context(lab: Lab, number: int) -> list[int]:
    """Token ids whose first is no other context's: one that began alike would be used by it, and stay for longer."""
    lab.random.seed(lab.parameters["seed"] * 100_000 + number)
    return [10 + number, *(lab.random.randrange(10, 250) for _ in range(lab.parameters["context_tokens"] - 1))]


def exact_context_bytes(lab: Lab, engine: EngineFace) -> float:
    """Bytes of a context's keys and values in float32, whatever pages they lie in."""
    return lab.parameters["context_tokens"] * engine.profile.cache_spec.bytes_per_token


def values_in(exact_bytes: float) -> float:
    """Numbers in so many bytes of float32."""
    return exact_bytes / 4
