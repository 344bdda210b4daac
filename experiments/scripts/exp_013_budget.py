"""EXP-013: with load far beyond it the memory budget holds, and every request completes and says what it should."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, frozen

from semantic.domain.errors import RequestTooLargeError
from semantic.domain.value_objects import parse_size
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
    at_most,
    compare_with_solo,
    exactly,
    fixtures,
    must,
    nice,
)

TEXTS = fixtures(__file__, "exp_009")

EXPERIMENT = Experiment(
    id="EXP-013",
    title="Memory is a bound",
    sprint="5 - Under load",
    owner="QE",
    expected_duration="about 5 minutes quick, 20 minutes full, on 2 cores",
    objective=(
        "Put one, two and four times the memory budget to work at once, half of it in the background, and measure the "
        "most memory that is ever held, what everyone says, and what swapping costs."
    ),
    hypotheses=(
        Hypothesis("Keys, values, activations and buffers together never exceed the budget", ("C1", "C2")),
        Hypothesis("Every request completes, with the tokens it draws alone", ("C3", "C4")),
        Hypothesis("Background work gives way and is taken up again from the store", ("C5",)),
        Hypothesis("What can never fit is refused at once, with the arithmetic", ("C6",)),
        Hypothesis("Swapping costs little", ("N1",)),
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
            "semantic.application.residency:Residency",
            "semantic.domain.value_objects:Workspace",
        ),
    ),
    method=Method(
        environment="engine = semantic.open('smollm2-135m', memory='200MB', store=folder)",
        data="prompts = excerpts of fixtures/corpus, no two alike   # half 'background', half 'interactive'",
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "memory": "400MB",
            "loads": (1, 2, 4),
            "background_prompt_tokens": 300,
            "background_new_tokens": 160,
            "interactive_prompt_tokens": 200,
            "interactive_new_tokens": 40,
        },
        steps=(
            Step(
                "Work out how many requests make up one budget; of each load, submit the background half first",
                "engine.submit(prompt, max_tokens=..., priority='background')",
            ),
            Step("When those run, submit the interactive half", "engine.submit(prompt, max_tokens=...)"),
            Step("Read all counters of memory every few milliseconds until everything has ended"),
            Step("Hold every reply against the same request alone, on an engine with room"),
        ),
        measurement=(
            "# C1: the most bytes of KV memory ever held, plus MLX's peak and cache above what the weights take,\n"
            "#     over the budget.\n"
            "# C2: the growth of the process's resident set from before the load, over the budget.\n"
            "# N1: tokens per second (prompt and new) at the highest load, over those at the lowest."
        ),
    ),
    criteria=(
        must("C1", "Most memory held, over the budget", at_most(1.0)),
        must("C2", "Growth of the resident set, over the budget", at_most(1.1)),
        must("C3", "Requests that did not complete", exactly(0)),
        must("C4", "Replies that differ from the same request alone, ties apart", exactly(0)),
        must("C5", "Preemptions at the highest load", at_least(1)),
        must("C6", "Requests that can never fit and were not refused", exactly(0)),
        nice("N1", "Throughput at the highest load, over that at the lowest", at_least(0.8)),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "More is held than the budget",
                "Compare the peaks of KV memory and of MLX; hold MLX's against the workspace of the model's profile",
                "Any byte by our own counters; more than a tenth by the resident set",
            ),
            FailureScenario(
                "A request does not complete, or says something else",
                "Look for request.preempted in the log and for blocks that were lost; repeat with that request alone",
                "Any",
            ),
        ),
    ),
    profiles=(
        Profile("quick", "a budget of 200 MB", {"memory": "200MB", "background_new_tokens": 96}),
        Profile("full", "a budget of 400 MB"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Repeat on contiguous caches",
        future="Repeat on Metal, where weights and caches share one memory",
    ),
    related=Related(adrs=("ADR-0023", "ADR-0024"), experiments=("EXP-006", "EXP-010", "EXP-012")),
)


@frozen
class Asked:
    """One request of a load."""

    prompt: list[int]
    max_tokens: int
    priority: str

    @property
    def num_tokens(self) -> int:
        """All that its cache comes to hold."""
        return len(self.prompt) + self.max_tokens


@define
class Peaks:
    """The most bytes seen since the load began."""

    kv: int = 0
    device: int = 0
    resident: int = 0


@frozen
class Load:
    """What came of one load."""

    factor: int
    done: dict[int, Completion]
    held: int
    grown: int
    preemptions: int
    tokens_per_s: float


def run(lab: Lab) -> None:
    """One engine with a fresh store for each load, then one with room for the yardstick."""
    budget = parse_size(lab.parameters["memory"])
    loads: list[Load] = []
    requests: list[Asked] = []
    refused = True
    with lab.engines.open() as engine:
        texts = [engine.encode(TEXTS.text(name)) for name in TEXTS.TEXTS]
    for number, factor in enumerate(lab.parameters["loads"]):
        lab.progress(f"load {factor}", number, len(lab.parameters["loads"]) + 1)
        with (
            lab.run(f"load {factor}"),
            lab.stores.place() as folder,
            lab.engines.open(memory=lab.parameters["memory"], store=folder, max_num_seqs=16) as engine,
        ):
            requests = requests_for(lab, engine, texts, budget * factor)
            loads.append(put_to_work(lab, engine, factor, requests))
            refused &= refuses_what_never_fits(lab, engine, texts, budget)
    with lab.run("each alone"), lab.engines.open(prefix_caching=False) as engine:
        hold_against_solo(lab, engine, loads, requests)
    judge(lab, loads, budget, refused=refused)


def requests_for(lab: Lab, engine: EngineFace, texts: list[list[int]], num_bytes: int) -> list[Asked]:
    """Pairs of a background and an interactive request until they need so many bytes. A larger load begins alike."""
    kinds = [
        (lab.parameters["background_prompt_tokens"], lab.parameters["background_new_tokens"], "background"),
        (lab.parameters["interactive_prompt_tokens"], lab.parameters["interactive_new_tokens"], "interactive"),
    ]
    spec = engine.profile.cache_spec
    requests: list[Asked] = []
    needed = 0
    while needed < num_bytes:
        for size, max_tokens, priority in kinds:
            number = len(requests)
            text = texts[number % len(texts)]
            start = number // len(texts) * 150 % max(1, len(text) - size)
            asked = Asked(text[start : start + size], max_tokens, priority)
            requests.append(asked)
            needed += spec.blocks_for_tokens(asked.num_tokens) * spec.bytes_per_block
    return requests


def put_to_work(lab: Lab, engine: EngineFace, factor: int, requests: list[Asked]) -> Load:
    """The background first; once it runs, the interactive ones."""
    lab.memory.reset_peak()
    before = lab.memory.read()
    start = lab.clock.monotonic()
    numbered = list(enumerate(requests))
    submitted = {}
    with watched(lab, engine, f"load {factor}") as peaks:
        for priority in ("background", "interactive"):
            for number, asked in numbered:
                if asked.priority == priority:
                    submitted[number] = engine.submit(asked.prompt, max_tokens=asked.max_tokens, priority=priority)
            if priority == "background":
                first = iter(submitted[0])  # held, since dropping it would cancel the request
                next(first)
        done = {number: request.result(1800) for number, request in submitted.items()}
    took_s = lab.clock.monotonic() - start
    device = max(0, lab.memory.read().device_peak - before.device_active)
    held, grown = peaks.kv + device, max(0, peaks.resident - before.resident)
    engine.flush()  # what is being written is held until it is on the disk
    stats = engine.stats()
    tokens = sum(asked.num_tokens for asked in requests)
    load = Load(factor, done, held, grown, stats.preemptions, tokens / took_s if took_s > 0 else 0.0)
    lab.log(
        f"{len(requests)} requests of {tokens} tokens in {took_s:.1f} s; at most {peaks.kv:,} bytes of keys and values "
        f"and {device:,} of MLX; resident set grew by {grown:,}; {stats.preemptions} preemptions"
    )
    if stats.pool_blocks_in_use:
        lab.fail(f"{stats.pool_blocks_in_use} blocks are in use with nothing running")
    lab.row(
        **{
            "Load": factor,
            "Requests": len(requests),
            "Completed": len(done),
            "KV memory (MB)": peaks.kv / 1e6,
            "MLX (MB)": device / 1e6,
            "Resident set (MB)": grown / 1e6,
            "Preemptions": stats.preemptions,
            "Loaded blocks": stats.loaded_blocks,
            "Tokens per s": load.tokens_per_s,
        }
    )
    return load


@contextmanager
def watched(lab: Lab, engine: EngineFace, label: str) -> Iterator[Peaks]:
    """Read what is held every few milliseconds, on a thread of its own."""
    peaks, is_over = Peaks(), threading.Event()
    kv = lab.series("KV memory", label, x_label="time", y_label="held", x_unit="s", y_unit="MB")
    start = lab.clock.monotonic()

    def look() -> None:
        last = -1.0
        while not is_over.wait(0.005):
            held = engine.stats().cache_bytes
            peaks.kv = max(peaks.kv, held)
            peaks.resident = max(peaks.resident, lab.memory.read().resident)
            now = lab.clock.monotonic() - start
            if now - last >= 1.0:
                kv.add(now, held / 1e6)
                last = now

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peaks
    finally:
        is_over.set()
        watcher.join()


def refuses_what_never_fits(lab: Lab, engine: EngineFace, texts: list[list[int]], budget: int) -> bool:
    """A request that needs more than the whole budget is refused before anything is computed."""
    too_many = budget // max(1, engine.profile.cache_spec.bytes_per_token) + 1
    limit = engine.profile.context_length
    if limit is not None and too_many + 1 >= limit:
        lab.log("the model's context is shorter than the budget: nothing can be too large")
        return True
    prompt = (texts[0] * (too_many // len(texts[0]) + 1))[:too_many]
    try:
        engine.generate(prompt, max_tokens=1)
    except RequestTooLargeError as error:
        lab.log(f"refused: {error}")
        return True
    return False


def hold_against_solo(lab: Lab, engine: EngineFace, loads: list[Load], requests: list[Asked]) -> None:
    """Every request of the largest load alone, and what it said in each load."""
    for number, asked in enumerate(requests):
        lab.progress("each alone", number, len(requests))
        alone = engine.generate(asked.prompt, max_tokens=asked.max_tokens)
        for load in loads:
            said = load.done.get(number)
            if said is None:
                continue
            comparison = compare_with_solo(said, alone, asked.prompt, lab.reference)
            label = f"request {number + 1} at load {load.factor}"
            if not lab.compare(label, comparison, texts_agree=said.text == alone.text):
                lab.fail(f"{label} differs from itself alone: {comparison}")


def judge(lab: Lab, loads: list[Load], budget: int, *, refused: bool) -> None:
    """Peaks against the budget; the highest load against the lowest."""
    if not loads:
        return
    held, grown = max(load.held for load in loads), max(load.grown for load in loads)
    lab.measure("C1", held / budget, f"{held:,} bytes at most of {budget:,}")
    lab.measure("C2", grown / budget, f"{grown:,} bytes at most of {budget:,}")
    unfinished = sum(done.finish_reason == "cancelled" for load in loads for done in load.done.values())
    lab.measure("C3", unfinished, f"{sum(len(load.done) for load in loads)} completed")
    tally = lab.tally()
    if tally.sequences:
        lab.measure("C4", len(tally.mismatches), str(tally))
        for label, tie in tally.ties:
            lab.caveat(f"{label}: {tie}")
    lowest, highest = loads[0], loads[-1]
    lab.measure("C5", highest.preemptions, f"{highest.preemptions} at load {highest.factor}")
    lab.measure("C6", 0 if refused else 1, "refused at once" if refused else "not refused")
    if lowest.tokens_per_s > 0:
        evidence = f"{highest.tokens_per_s:.1f} tokens/s against {lowest.tokens_per_s:.1f}"
        lab.measure("N1", highest.tokens_per_s / lowest.tokens_per_s, evidence)
        lab.observe(Finding.POSITIVE, f"at load {highest.factor}: {evidence}")
