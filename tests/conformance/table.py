"""The table of architectures in the docs, made from outcomes. ``python -m conformance.table`` writes it."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from conformance.examine import Outcome, examine
from tiny_zoo import FAMILIES, ZOO

TABLE = Path(__file__).parents[2] / "docs" / "architectures.md"

_HEAD = """# Architectures

How the engine runs the models that mlx_lm can load, on the CPU and in float32. Every row is a tiny model with random
weights, run through `tests/conformance` against `mlx_lm.generate_step`: alone, three lengths at once, joining and
leaving mid-flight, prompts of several chunks and longer than the window, turn by turn, forked, and after a restart from
the store. Tokens must be equal and log-probabilities within 0.1% of their spread. Written by `make architectures`; a
test fails when it is stale. Why a model runs the way it does: [ADR 0012](adr/0012-conformance-and-batching-lanes.md).

- **Batching.** *ragged*: rows of different lengths share a forward and each attends to its own cache. *padded*: they
  share the attention too, their caches side by side and masked. *one by one*: a forward for each row.
- **Layout.** *paged*: the pool's blocks are the memory. *contiguous*: mlx_lm's own caches.
- **Reuse.** Where a cached context may be taken up: *anywhere*, *at states* (where a context ended or a block was
  complete), *at chunks* (whole prefill chunks), *never*.
- **Equal.** Whether all scenarios gave what mlx_lm gives.
"""

_NOT_HERE = """
## Not in the table

| model | why |
|---|---|
| bitnet, muse_spark | mlx_lm runs them with a Metal kernel only |
| phi3small | on the CPU, mlx_lm's own run of it corrupts memory ("free(): invalid next size") |
| deepseek_v41 | keeps its context in a cache of its own kind: refused with a named error before any weight is loaded |
| prism_hadamard_qwen35 | its packed weights can't be drawn at random; the lanes are tried at every load |
"""


def table_of(outcomes: Sequence[Outcome]) -> str:
    """The whole document."""
    by_name = {outcome.name: outcome for outcome in outcomes}
    parts = [_HEAD, f"\n{len(outcomes)} models, mlx-lm {_minor('mlx-lm')}, mlx {_minor('mlx')}.\n"]
    for family, models in FAMILIES.items():
        parts.append(f"\n## {family.capitalize()}\n\n| model | caches | batching | layout | reuse | equal |\n")
        parts.append("|---|---|---|---|---|---|\n")
        parts.extend(_row(by_name[name]) for name in models)
    return "".join([*parts, _NOT_HERE])


def rows_of(document: str) -> list[str]:
    """What can be stale in it."""
    return [line for line in document.splitlines() if line.startswith("| ")]


def _row(outcome: Outcome) -> str:
    equal = "yes" if outcome.is_equal else "no"
    return (
        f"| {outcome.name} | {outcome.caches} | {outcome.batching} | {outcome.layout} | {outcome.reuse} | {equal} |\n"
    )


def _minor(distribution: str) -> str:
    return ".".join(metadata.version(distribution).split(".")[:2])


def main() -> None:
    outcomes = {name: outcome for models in FAMILIES.values() for name, outcome in examine(list(models)).items()}
    for name, outcome in outcomes.items():
        if not outcome.is_equal:
            print(f"{name}: {outcome.scenarios}")
    TABLE.write_text(table_of([outcomes[name] for name in ZOO]), encoding="utf-8")


if __name__ == "__main__":
    main()
