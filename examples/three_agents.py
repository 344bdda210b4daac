"""Three agents talk, the process ends, another one goes on: what each next word costs cold, hot and warm.

    python examples/three_agents.py [--model NAME] [--store FOLDER]

Each agent has read a text of some 800 tokens. *Cold* computes all of its context, *hot* finds it in memory, *warm*
brings it from the store into a new process. The last column says whether the words are those of a run without memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import semantic

NAMES = ("ada", "grace", "alan")
QUESTIONS = ("Who wrote this, and where?", "What does it say about the weather?", "Sum it up in one sentence.")
READING = (
    "{name} keeps the log of lighthouse number {number}. On the first page the keeper explained why: a record is a "
    "kind of promise. If the wind turned in the night, the ships would know only what had been written before. So the "
    "height of the waves was noted, the colour of the clouds over the cape, and the number of gulls on the railing, "
    "although no rule asked for gulls. "
)
NEW_TOKENS = 16


def main() -> None:
    """Talk in this process, go on in another, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a known name, a folder, a .gguf file or a hub id")
    parser.add_argument("--store", type=Path, help="where the agents shall live on; a temporary folder by default")
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.resume:
        print(json.dumps(resume(arguments.model, arguments.store)))
        return
    with tempfile.TemporaryDirectory(prefix="semantic-agents-") as folder:
        store = arguments.store or Path(folder)
        before = talk(arguments.model, store)
        print("the first process has ended; a second one opens the same store", flush=True)
        report(before, in_another_process(arguments.model, store))


def talk(model: str | None, store: Path) -> dict[str, dict[str, Any]]:
    """Two turns of each agent: the first computes everything, the second finds it in memory."""
    turns: dict[str, dict[str, Any]] = {}
    with semantic.open(model, store=store) as engine:
        for number, name in enumerate(NAMES):
            agent = engine.agent(name, system="You are terse.")
            text = READING.format(name=name.title(), number=number) * 9
            cold = agent.chat(f"Read this.\n{text}\n{QUESTIONS[0]}", max_tokens=NEW_TOKENS)
            hot = agent.chat(QUESTIONS[1], max_tokens=NEW_TOKENS)
            print(f"{name}: {' '.join(hot.text.split())[:90]}", flush=True)
            turns[name] = {"cold_s": cold.timings.ttft_s, "hot_s": hot.timings.ttft_s}
    return turns


def in_another_process(model: str | None, store: Path) -> dict[str, dict[str, Any]]:
    """What :func:`resume` finds there."""
    command = [sys.executable, __file__, "--resume", "--store", str(store), *(["--model", model] if model else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    turns: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return turns


def resume(model: str | None, store: Path) -> dict[str, dict[str, Any]]:
    """One more turn of each agent from the store, and the same prompt without any memory."""
    pair = semantic.load(model)
    prompts: dict[str, list[int]] = {}
    turns: dict[str, dict[str, Any]] = {}
    with semantic.open(pair, store=store) as engine:
        for name in NAMES:
            agent = engine.agent(name)
            prompts[name] = engine.encode([*agent.history, {"role": "user", "content": QUESTIONS[2]}])
            warm = agent.chat(QUESTIONS[2], max_tokens=NEW_TOKENS)
            turns[name] = {
                "warm_s": warm.timings.ttft_s,
                "tokens": warm.usage.prompt_tokens,
                "cached": warm.usage.cached_tokens,
                "token_ids": warm.token_ids,
            }
    with semantic.open(pair, prefix_caching=False) as engine:
        for name in NAMES:
            expected = engine.generate(prompts[name], max_tokens=NEW_TOKENS)
            turns[name]["same"] = list(expected.token_ids) == list(turns[name].pop("token_ids"))
    return turns


def report(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> None:
    """The table: seconds to the first token of a reply."""
    print(f"\n{'time to first token':<20}{'cold':>9}{'hot':>9}{'warm':>9}   {'cached of prompt':<18}{'same words'}")
    for name in NAMES:
        one = before[name] | after[name]
        cached = f"{one['cached']:,} of {one['tokens']:,}"
        print(
            f"{name:<20}{one['cold_s']:>7.2f} s{one['hot_s']:>7.2f} s{one['warm_s']:>7.2f} s   {cached:<18}"
            f"{'yes' if one['same'] else 'NO'}"
        )
    if not all(one["same"] for one in after.values()):
        raise SystemExit("an agent's words differ from a run without memory")


if __name__ == "__main__":
    main()
