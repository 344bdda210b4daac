"""EXP-004: what a sequence says does not depend on the batch it runs in."""

from itertools import product

from attrs import define, evolve, field, frozen

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

EXPERIMENT = Experiment(
    id="EXP-004",
    title="Batched identity",
    sprint="2 - Block-Pool Batch Engine",
    owner="SE",
    expected_duration="about 2 minutes quick, 15 minutes full, on 2 cores",
    objective=(
        "Prove that a sequence in a batch, whoever joins or leaves beside it, gets exactly the tokens that it "
        "gets alone."
    ),
    hypotheses=(
        Hypothesis(
            "In batches of 2, 4 and 8 with mixed lengths each sequence equals its solo run, except at "
            "near-ties of the reference (ADR 0004)",
            ("C1", "C2"),
        ),
        Hypothesis("In the bit lane there are no exceptions", ("C3",)),
        Hypothesis("Sequences that join and leave mid-flight disturb no other", ("C1", "C4")),
        Hypothesis("A cancelled sequence has said, up to then, what it says alone; its blocks return", ("C5", "C6")),
        Hypothesis("The solo runs themselves equal the reference's (a sample)", ("C7",)),
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
            "semantic.application.batch_engine:BlockPoolBatchEngine",
        ),
    ),
    method=Method(
        environment=(
            "engine = semantic.open('smollm2-135m', exactness=lane, max_num_seqs=9, prefix_caching=False)\n"
            "# Without the prefix cache: the batch must compute what the solo run did, not find it."
        ),
        data=(
            "# eight prompts of EXP-001's fixtures, 4 to 400 tokens long, each with its own max_tokens\n"
            'prompts = ["short", "chat", "python", "json", "japanese", "excerpt", "long", "list"]'
        ),
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "prompts": ("short", "chat", "python", "json", "japanese", "excerpt", "long", "list"),
            "max_new_tokens": 128,
            "batch_sizes": (2, 4, 8),
            "bit_batch_sizes": (2, 4, 8),
            "join_every": 3,
            "reference_sample": 8,
        },
        steps=(
            Step("Run each request alone", "solo = engine.generate(prompt, max_tokens=n)"),
            Step("Run the batch at once", "engine.batch_generate(prompts, max_tokens=lengths)"),
            Step(
                "Run the batch with one more sequence joining after every few tokens of the first; the shorter "
                "ones leave as they finish, and one visitor is cancelled mid-flight",
                "for n, delta in enumerate(first):\n    if n % join_every == 0: engine.submit(next_one)",
            ),
            Step("Compare each with its solo run", "comparison = compare_with_solo(batched, solo, ...)"),
        ),
        measurement=(
            "# Drawn tokens up to the first divergence, and the text. Where they differ in the token lane, the\n"
            "# reference is asked for its two best candidates after the tokens that both drew: a tie by ADR 0004?"
        ),
    ),
    criteria=(
        must("C1", "Token lane: sequences that differ from their solo run other than by a tie", exactly(0)),
        must("C2", "Token lane: ties beyond one for each started 10,000 tokens", exactly(0)),
        must("C3", "Bit lane: sequences that equal their solo run", exactly(1, "of all")),
        must("C4", "Sequences running at once in the emptiest of the staggered batches", at_least(2)),
        must("C5", "Cancelled sequences that said something else than they say alone", exactly(0)),
        must("C6", "Batches after which the pool did not have its free blocks back", exactly(0)),
        must("C7", "Sampled solo runs that differ from the reference other than by a tie", exactly(0)),
        nice("N1", "Token lane: sequences that equal their solo run", exactly(1, "of all")),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "A batched sequence differs and it is no tie",
                "Halve the batch until it agrees; look at the row order and at each row's offset and mask",
                "Any such sequence: escalate to PM, another's context may have leaked in",
            ),
            FailureScenario(
                "Only staggered batches differ",
                "Log the batch at each step; look at the step in which a row joined or left",
                "If it can't be reproduced in ten runs",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "24 new tokens at most; bit lane in batches of 2 only; 2 solo runs held against the reference",
            {"max_new_tokens": 24, "bit_batch_sizes": (2,), "reference_sample": 2},
        ),
        Profile(
            "full",
            "128 new tokens at most; both lanes in batches of 2, 4 and 8; all solo runs checked",
        ),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Repeat with sampled decoding, where the seed belongs to the request",
        future="Repeat with shared prefixes and after eviction",
    ),
    related=Related(adrs=("ADR-0003", "ADR-0004", "ADR-0007"), experiments=("EXP-001", "EXP-003")),
)


SAMPLE = "reference"


@frozen
class Request:
    """One prompt with its number of new tokens; mixed over a batch."""

    name: str
    prompt: Prompt
    max_tokens: int


@define
class Lane:
    """One lane's engine, solo runs and counts."""

    name: str
    engine: EngineFace
    free_blocks: int
    solo: dict[str, Completion] = field(factory=dict)
    peaks: list[int] = field(factory=list)
    cancelled: int = 0
    cancelled_differ: int = 0
    not_back: int = 0


def run(lab: Lab) -> None:
    """Both lanes, one engine after the other."""
    requests = mixed_requests(lab)
    lanes: list[Lane] = []
    sizes = {"token": lab.parameters["batch_sizes"], "bit": lab.parameters["bit_batch_sizes"]}
    total = sum(max(of_lane) + 2 * len(of_lane) for of_lane in sizes.values())
    done = 0
    try:
        for name, of_lane in sizes.items():
            with lab.engines.open(exactness=name, max_num_seqs=max(of_lane) + 1, prefix_caching=False) as engine:
                lane = Lane(name, engine, engine.stats().pool_free_blocks)
                lanes.append(lane)
                with lab.run(f"{name} lane, solo"):
                    for request in requests[: max(of_lane)]:
                        lab.progress(f"{name} lane, {request.name} alone", done, total)
                        run_alone(lab, lane, request)
                        done += 1
                if name == "token":
                    with lab.run("reference, a sample"):
                        sampled = requests[: lab.parameters["reference_sample"]]
                        hold_against_reference(lab, lane, sampled)
                for size, (kind, carry_out) in product(of_lane, KINDS.items()):
                    label = f"{name} lane, batch of {size}, {kind}"
                    lab.progress(label, done, total)
                    with lab.run(label):
                        batch = requests[:size]
                        compare_batch(lab, lane, batch, kind, carry_out(lab, lane, batch))
                    done += 1
    finally:
        conclude(lab, lanes)


def mixed_requests(lab: Lab) -> list[Request]:
    """The first is the longest, so that the others can join and leave beside it; the rest are of mixed length."""
    known = {prompt[0]: prompt[1] for prompt in [*PROMPTS.PROMPTS, *PROMPTS.QUICK_PROMPTS]}
    longest = lab.parameters["max_new_tokens"]
    shares = (1.0, 0.5, 0.75, 0.3, 0.9, 0.6, 0.8, 0.4)
    return [
        Request(name, known[name], max(1, round(longest * share)))
        for name, share in zip(lab.parameters["prompts"], shares, strict=True)
    ]


def run_alone(lab: Lab, lane: Lane, request: Request) -> None:
    """The yardstick for the batches."""
    completion = lane.engine.generate(request.prompt, max_tokens=request.max_tokens)
    lane.solo[request.name] = completion
    lab.log(f"{request.name}: {len(completion.token_ids)} tokens alone, {completion.finish_reason}")


def hold_against_reference(lab: Lab, lane: Lane, requests: list[Request]) -> None:
    """Batches are compared with solo runs; this says that those are right."""
    for request in requests:
        expected = lab.reference.expected(request.prompt, max_tokens=request.max_tokens)
        solo = lane.solo[request.name]
        comparison = compare_with_reference(solo, expected)
        lab.log(f"{request.name}: {comparison}")
        texts_agree = solo.text == expected.text
        if not lab.compare(f"{request.name} alone", comparison, lane=SAMPLE, texts_agree=texts_agree):
            lab.fail(f"{request.name} alone is not what the reference says: {comparison}")


def at_once(lab: Lab, lane: Lane, requests: list[Request]) -> list[Completion]:
    """All submitted together."""
    return lane.engine.batch_generate(
        [request.prompt for request in requests], max_tokens=[request.max_tokens for request in requests]
    )


def staggered(lab: Lab, lane: Lane, requests: list[Request]) -> list[Completion]:
    """One joins after every few tokens of the first; a visitor comes with the second and is cancelled soon."""
    engine, every = lane.engine, lab.parameters["join_every"]
    handles = [engine.submit(requests[0].prompt, max_tokens=requests[0].max_tokens)]
    waiting = list(requests[1:])
    visiting, visitor, peak = requests[0], None, 0
    for number, _ in enumerate(handles[0]):
        if number % every == 0 and waiting:
            request = waiting.pop(0)
            handles.append(engine.submit(request.prompt, max_tokens=request.max_tokens))
        if number == every:
            visitor = engine.submit(visiting.prompt, max_tokens=visiting.max_tokens)
        if number == 3 * every and visitor is not None:
            visitor.cancel()
        peak = max(peak, engine.stats().running)
    handles.extend(engine.submit(late.prompt, max_tokens=late.max_tokens) for late in waiting)
    completions = [handle.result(timeout=600) for handle in handles]
    lane.peaks.append(peak)
    lab.log(f"{peak} sequences at once at most, {len(waiting)} joined only after the first had finished")
    if visitor is not None:
        judge_visitor(lab, lane, visiting, visitor.result(timeout=600))
    return completions


KINDS = {"at once": at_once, "joining and leaving": staggered}


def judge_visitor(lab: Lab, lane: Lane, visiting: Request, visitor: Completion) -> None:
    """What it said before it was cancelled is the beginning of what it says alone."""
    lane.cancelled += visitor.finish_reason == "cancelled"
    said = len(visitor.token_ids)
    beginning = evolve(lane.solo[visiting.name], finish_reason=visitor.finish_reason)
    beginning = evolve(beginning, token_ids=beginning.token_ids[:said])
    comparison = compare_with_solo(visitor, beginning, lane.engine.encode(visiting.prompt), lab.reference)
    lab.log(f"visitor: {visitor.finish_reason} after {said} tokens, {comparison}")
    if not comparison.agrees and not comparison.is_tie:
        lane.cancelled_differ += 1
        lab.fail(f"the visitor differs from what it says alone: {comparison}")


def compare_batch(lab: Lab, lane: Lane, requests: list[Request], kind: str, completions: list[Completion]) -> None:
    """Each with its solo run; then the pool."""
    for request, batched in zip(requests, completions, strict=True):
        solo = lane.solo[request.name]
        prompt_ids = lane.engine.encode(request.prompt)
        comparison = compare_with_solo(batched, solo, prompt_ids, lab.reference)
        texts_agree = batched.text == solo.text
        passes = lab.compare(
            f"{request.name} in {len(requests)} {kind}", comparison, lane=lane.name, texts_agree=texts_agree
        )
        lab.row(
            **{
                "Prompt": request.name,
                "Lane": lane.name,
                "Batch": f"{len(requests)}, {kind}",
                "Prompt tokens": len(prompt_ids),
                "New tokens": len(batched.token_ids),
                "Expected Output": solo.text,
                "Actual Output": batched.text,
                "Match?": comparison.agrees and texts_agree,
                "Divergence": comparison.first_divergence,
            }
        )
        if not passes or (lane.name == "bit" and not comparison.agrees):
            lab.fail(f"{request.name}: {comparison}")
    free = lane.engine.stats().pool_free_blocks
    if free != lane.free_blocks:
        lane.not_back += 1
        lab.fail(f"{free} blocks are free, {lane.free_blocks} were when idle")


def conclude(lab: Lab, lanes: list[Lane]) -> None:
    """Fill in the criteria with what was compared, also after an early stop."""
    sample = lab.tally(SAMPLE)
    for lane in lanes:
        tally = lab.tally(lane.name)
        if lane.name == "token":
            lab.measure("C1", len(tally.mismatches) if tally.sequences else 1, str(tally))
            lab.measure("C2", tally.ties_over_cap, f"{len(tally.ties)} ties in {tally.tokens} tokens")
            lab.measure("N1", tally.share_equal, str(tally))
            for label, tie in tally.ties:
                lab.caveat(f"{label}: {tie}")
        else:
            lab.measure("C3", tally.share_equal, str(tally))
        for label, mismatch in tally.mismatches:
            lab.observe(Finding.ISSUE, f"{lane.name} lane, {label}: {mismatch}")
    peaks = [peak for lane in lanes for peak in lane.peaks]
    if peaks:
        lab.measure("C4", min(peaks), f"at most {peaks} at once in the staggered batches")
        differ, cancelled = (
            sum(lane.cancelled_differ for lane in lanes),
            sum(lane.cancelled for lane in lanes),
        )
        lab.measure("C5", differ, f"{cancelled} visitors cancelled mid-flight, of {len(peaks)}")
    if lanes:
        lab.measure("C6", sum(lane.not_back for lane in lanes), f"{len(lab.runs)} runs, idle after each batch")
    if sample.sequences:
        lab.measure("C7", len(sample.mismatches), str(sample))
        for label, tie in sample.ties:
            lab.caveat(f"{label}, against the reference: {tie}")
