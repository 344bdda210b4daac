"""Examines models of the zoo in a process of its own, and prints a line of JSON for each.

A process is for some dozens of models: MLX keeps a thread for every thread that ever used it, and an engine has one.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import asdict, frozen

TESTS = Path(__file__).parents[1]


@frozen
class Outcome:
    """How a model runs, and what it did in each scenario: None where it did what mlx_lm does, else the difference."""

    name: str
    caches: str
    batching: str
    layout: str
    reuse: str
    largest_difference: float
    scenarios: dict[str, str | None]

    @property
    def is_equal(self) -> bool:
        return not any(self.scenarios.values())


def examine(names: Sequence[str]) -> dict[str, Outcome]:
    """Examine these models in a new process. Those that it did not come to are missing."""
    command = [sys.executable, "-m", "conformance.examine", *names]
    done = subprocess.run(command, cwd=TESTS, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    outcomes = [Outcome(**json.loads(line)) for line in done.stdout.splitlines()]
    return {outcome.name: outcome for outcome in outcomes}


def outcome_of(name: str) -> Outcome:
    """Run every scenario of one model, here."""
    from conformance.harness import SCENARIOS, Examination

    differences: dict[str, str | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        examination = Examination.of(name, Path(folder))
        for scenario, run in SCENARIOS.items():
            try:
                run(examination)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong is what the test reports
                differences[scenario] = f"{type(error).__name__}: {error}"
            else:
                differences[scenario] = None
        profile = examination.profile
        return Outcome(
            name=name,
            caches=examination.caches,
            batching=profile.batching if profile else "",
            layout=profile.cache_layout if profile else "",
            reuse=str(profile.reuse) if profile else "",
            largest_difference=examination.largest_difference,
            scenarios=differences,
        )


def main(names: Iterable[str]) -> None:
    from semantic.adapters.mlx import blas

    blas.activate()
    for name in names:
        print(json.dumps(asdict(outcome_of(name))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
