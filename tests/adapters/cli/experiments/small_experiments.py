"""Scripts of experiments that end at once, for tests of the commands."""

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

SCRIPT = """
from semantic.adapters.fakes.experiments import example_experiment
EXPERIMENT = example_experiment(id="{id}", title="An example")
def run(lab):
    with lab.run("only"):
        lab.measure("C1", {value}, "counted")
    {more}
"""

SIZES = """
from semantic.adapters.fakes.experiments import example_experiment
EXPERIMENT = example_experiment(id="{id}", title="Sizes")
def run(lab):
    lab.measure("C1", lab.parameters["size"] - 4, "less 4")
    lab.measure("N1", lab.parameters["seed"], "the seed")
"""


Invoke = Callable[..., Result]


def write(folder: Path, id: str, text: str) -> None:
    (folder / "scripts" / f"{id.lower().replace('-', '_')}_x.py").write_text(text)
