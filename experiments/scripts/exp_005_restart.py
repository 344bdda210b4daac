"""EXP-005: agents outlive the process, also one that is killed, and go on as if nothing had happened."""

from statistics import median

from semantic.experiments import (
    Completion,
    Dependency,
    EngineProcess,
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
    Reply,
    Step,
    at_most,
    exactly,
    fixtures,
    must,
    nice,
)

FIXTURES = fixtures(__file__, "exp_005")
FORK, SYSTEM, Notes, Whole = FIXTURES.FORK, FIXTURES.SYSTEM, FIXTURES.Notes, FIXTURES.Whole

EXPERIMENT = Experiment(
    id="EXP-005",
    title="Restart",
    sprint="3 - Agents remember",
    owner="SE",
    expected_duration="about 3 minutes quick, 20 minutes full, on 2 cores",
    objective=(
        "Prove that agents whose process ended, normally or by SIGKILL, go on in the next one exactly as they "
        "would have gone on in the first, and without computing again what they knew."
    ),
    hypotheses=(
        Hypothesis(
            "Resumed agents say what they say in an uninterrupted run, except at near-ties of the reference (ADR 0004)",
            ("C1", "C2"),
        ),
        Hypothesis("Each stands at its last committed turn, or at a later one that was durable already", ("C3", "C5")),
        Hypothesis("A resumed turn computes its new message, and nothing that was known", ("C4",)),
        Hypothesis("The first token of a long context comes from disk much sooner than cold", ("C6", "N1")),
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
            "semantic.application.store_tier:StoreTier",
            "semantic.adapters.storage.disk_store:DiskStore",
        ),
    ),
    method=Method(
        environment=(
            "# every engine in a process of its own, on a store of this run:\n"
            "engine = semantic.open('smollm2-135m', store=folder)"
        ),
        data=(
            "agents = [engine.agent(name, system=SYSTEM) for name in names]   # and a fork of the first after turn 1\n"
            "# times: token ids drawn at random, 256 to 4,096 of them, so that nothing of them is known"
        ),
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "agents": 4,
            "turns": 4,
            "max_new_tokens": 32,
            "kills": 10,
            "lengths": (256, 1024, 2048, 4096),
            "samples": 3,
        },
        steps=(
            Step("Let the agents talk, all at once, without interruption: the yardstick", "agent.chat(message)"),
            Step(
                "Repeat with a normal end after the second turn; a new process says where they stand, and goes on",
                "engine.close()",
            ),
            Step(
                "Repeat with SIGKILL: the first turn is flushed, the second is under way or being written; the moment "
                "is random, one in each of equal parts of the time that turn took, and a third more",
                "engine.flush(); begin(turn 2); time.sleep(random); os.kill(pid, SIGKILL)",
            ),
            Step(
                "For each length: the time to first token cold; hot (all but the last token in memory); and warm (in "
                "a new process, from its store; the files are in the system's cache, as after a restart of the "
                "process and not of the machine). Each process is warmed up with another prompt",
                "engine.generate(ids, max_tokens=8).timings.ttft_s",
            ),
        ),
        measurement=(
            "# Known tokens computed again: those that the context before the turn and the turn's prompt begin with\n"
            "# in common, less usage.cached_tokens. The last token of a reply that ended at max_tokens was never\n"
            "# fed, so that one may be missing."
        ),
    ),
    criteria=(
        must("C1", "Replies that differ from the uninterrupted run's other than by a tie", exactly(0)),
        must("C2", "Ties beyond one for each started 10,000 tokens", exactly(0)),
        must("C3", "Agents that stood neither at their last committed turn nor at a later one", exactly(0)),
        must("C4", "Most known tokens that one turn computed again", at_most(1, "tokens")),
        must("C5", "Restarts carried out, of those planned", exactly(1, "of all")),
        must("C6", "Time to first token at the longest length, from disk over cold", at_most(0.2)),
        nice("N1", "Time to first token at the longest length, from disk over cold", at_most(0.02)),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "A resumed agent says something else",
                "Run EXP-007; compare the block's arrays with those of the run that wrote them, byte for byte",
                "Any such reply: escalate to PM, the store changes what a model says",
            ),
            FailureScenario(
                "An agent is behind its committed turn",
                "Look at the order of blocks and record in the writer's queue, and at what flush waits for",
                "Any such agent",
            ),
            FailureScenario(
                "Known tokens are computed again",
                "Look at agent.history.diverged and cache.block.lost in the log",
                "If more than one block is computed again",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "3 agents and a fork, 3 turns of 12 new tokens, 2 kills; times at 256 and 1,024 tokens, once",
            {"agents": 3, "turns": 3, "max_new_tokens": 12, "kills": 2, "lengths": (256, 1024), "samples": 1},
        ),
        Profile("full", "4 agents and a fork, 4 turns of 32 new tokens, 10 kills; times up to 4,096 tokens, 3 times"),
    ),
    next_steps=NextSteps(
        immediate="Hold the times against the benchmark's (make bench)",
        sprint="Repeat with a model with windows or recurrent state",
        future="Repeat with quantised keys and values",
    ),
    related=Related(adrs=("ADR-0004", "ADR-0009", "ADR-0010", "ADR-0018"), experiments=("EXP-004", "EXP-007")),
)


def run(lab: Lab) -> None:
    """The yardstick, a normal end, kills, times."""
    notes, kills = Notes(), lab.parameters["kills"]
    try:
        with lab.run("uninterrupted"):
            lab.progress("uninterrupted", 0, kills + 3)
            whole = uninterrupted(lab)
        if lab.crashed_runs:
            return
        with lab.run("normal end"):
            lab.progress("normal end", 1, kills + 3)
            interrupted(lab, whole, notes, committed=2)
        for number in range(1, kills + 1):
            with lab.run(f"SIGKILL {number}"):
                lab.progress(f"SIGKILL {number}", number + 1, kills + 3)
                interrupted(lab, whole, notes, committed=1, moment=(number - lab.random.random()) / kills)
        with lab.run("time to first token"):
            lab.progress("time to first token", kills + 2, kills + 3)
            take_times(lab, notes)
    finally:
        conclude(lab, notes)


def uninterrupted(lab: Lab) -> Whole:
    """All turns in one process."""
    with lab.stores.place() as store:
        process = lab.processes.start(store)
        try:
            names = begin(lab, process)
            replies = {1: first_turn(lab, process, names)}
            start = lab.clock.monotonic()
            replies[2] = say(lab, process, names, 2)
            second_turn_s = lab.clock.monotonic() - start
            replies |= {turn: say(lab, process, names, turn) for turn in range(3, lab.parameters["turns"] + 1)}
        finally:
            process.close()
    lab.log(f"{len(names)} agents; the second turn took {second_turn_s:.2f} s")
    return Whole(names, replies, second_turn_s)


def begin(lab: Lab, process: EngineProcess) -> list[str]:
    """Make the agents; the fork comes later, by name the last."""
    names = [f"agent {number}" for number in range(lab.parameters["agents"])]
    for name in names:
        process.make(name, SYSTEM)
    return [*names, FORK]


def first_turn(lab: Lab, process: EngineProcess, names: list[str]) -> dict[str, Reply]:
    """The agents' first turn, and the fork."""
    replies = say(lab, process, names[:-1], 1)
    process.fork(names[0], FORK)
    return replies


def say(lab: Lab, process: EngineProcess, names: list[str], turn: int) -> dict[str, Reply]:
    """One turn of these agents at once."""
    replies = process.say(FIXTURES.turns(names, turn), max_tokens=lab.parameters["max_new_tokens"])
    return {reply.agent: reply for reply in replies}


def interrupted(lab: Lab, whole: Whole, notes: Notes, *, committed: int, moment: float = 0.0) -> None:
    """Talk until a normal end after two turns, or until a kill after one; then go on in a new process.

    ``moment``: from 0, when the second turn begins, to 1, a third of its length after its end.
    """
    with lab.stores.place() as store:
        process = lab.processes.start(store)
        try:
            names = begin(lab, process)
            replies = first_turn(lab, process, names)
            contexts = {name: replies.get(name, replies[names[0]]).context for name in names}
            if committed == 2:
                contexts = {name: reply.context for name, reply in say(lab, process, names, 2).items()}
            else:
                process.flush()
                process.begin(FIXTURES.turns(names, 2), max_tokens=lab.parameters["max_new_tokens"])
                delay_s = moment * whole.second_turn_s * 4 / 3
                lab.log(f"killed after {delay_s:.3f} s")
                process.kill(delay_s)
        finally:
            process.close()
        resume(lab, whole, notes, store, contexts, committed)


def resume(
    lab: Lab, whole: Whole, notes: Notes, store: str, contexts: dict[str, tuple[int, ...]], committed: int
) -> None:
    """A new process on the store: where the agents stand, and what they say from there on."""
    process = lab.processes.start(store)
    try:
        standing = {agent.agent: agent for agent in process.agents()}
        for name, context in contexts.items():
            FIXTURES.check_standing(lab, whole, notes, standing.get(name), name, context, committed)
        known = {name: agent.context for name, agent in standing.items()}
        for turn in range(committed + 1, lab.parameters["turns"] + 1):
            names = [name for name in whole.names if name in standing and standing[name].turns < turn]
            for name, reply in say(lab, process, names, turn).items() if names else ():
                FIXTURES.compare(lab, notes, f"{name}, turn {turn}", reply, whole.replies[turn][name], known[name])
                known[name] = reply.context
    finally:
        process.close()
    notes.resumed += 1


def take_times(lab: Lab, notes: Notes) -> None:
    """Cold and hot in one process, warm in the next."""
    prompts = [
        [lab.random.randrange(3, 250) for _ in range(length)]
        for _ in range(lab.parameters["samples"])
        for length in lab.parameters["lengths"]
    ]
    with lab.stores.place() as store:
        colds = one_process(lab, notes, store, prompts, kinds=("cold", "hot"))[::2]
        warms = one_process(lab, notes, store, prompts, kinds=("warm",))
    for prompt, cold, warm in zip(prompts, colds, warms, strict=True):
        FIXTURES.judge(lab, notes, f"{len(prompt)} tokens, from disk", warm, cold, tuple(prompt))
    axes = {"x_label": "context", "x_unit": "tokens", "y_label": "time to first token", "y_unit": "s"}
    for length, times in notes.times.items():
        lab.row(**{"Tokens": length, **{f"{kind} (s)": median(seconds) for kind, seconds in times.items()}})
        for kind, seconds in times.items():
            estimate = lab.estimate(f"{kind}, {length} tokens", seconds, unit="s", figure="Time to first token")
            lab.series("Time to first token by context", kind, **axes).add(length, estimate)


def one_process(
    lab: Lab, notes: Notes, store: str, prompts: list[list[int]], kinds: tuple[str, ...]
) -> list[Completion]:
    """Each prompt once for each kind, one after the other."""
    done = []
    process = lab.processes.start(store)
    try:
        process.generate([lab.random.randrange(3, 250) for _ in range(40)], max_tokens=2)
        for prompt in prompts:
            for kind in kinds:
                completion = process.generate(prompt, max_tokens=8)
                notes.time(len(prompt), kind, completion.timings.ttft_s)
                known = 0 if kind == "cold" else len(prompt) - 1
                notes.recomputed.append(known - completion.usage.cached_tokens)
                done.append(completion)
    finally:
        process.close()
    return done


def conclude(lab: Lab, notes: Notes) -> None:
    """Fill in the criteria, also after an early stop."""
    tally = lab.tally()
    lab.measure("C1", len(tally.mismatches) if tally.sequences else 1, str(tally))
    lab.measure("C2", tally.ties_over_cap, f"{len(tally.ties)} ties in {tally.tokens} tokens")
    planned = lab.parameters["kills"] + 1
    evidence = f"{notes.resumed} of {planned} restarts; {notes.later} agents stood at a turn after the flushed one"
    lab.measure("C3", len(notes.wrong_standing), ", ".join(notes.wrong_standing) or evidence)
    lab.measure("C5", notes.resumed / planned, evidence)
    if notes.recomputed:
        lab.measure("C4", max(notes.recomputed), f"{len(notes.recomputed)} turns and prompts")
    for label, tie in tally.ties:
        lab.caveat(f"{label}: {tie}")
    for label, mismatch in tally.mismatches:
        lab.observe(Finding.ISSUE, f"{label}: {mismatch}")
    longest = notes.times.get(max(lab.parameters["lengths"]), {})
    if "warm" in longest:
        cold, hot, warm = (median(longest[kind]) for kind in ("cold", "hot", "warm"))
        evidence = f"cold {cold:.3f} s, hot {hot:.3f} s, from disk {warm:.3f} s"
        lab.measure("C6", warm / cold, evidence)
        lab.measure("N1", warm / cold, evidence)
