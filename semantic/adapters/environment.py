"""The machine and the code, as an experiment's report states them."""

import importlib
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources.catalogue import ModelCatalogue
from semantic.domain.errors import ModelError
from semantic.domain.experiments import EnvironmentFacts

_ALWAYS = ("mlx", "mlx-lm", "numpy", "semantic-kv")


class SystemEnvironment:
    """Reads the running system; ``folder`` is where the repository is looked for.

    ``prepare`` is how this composition readies MLX; without one, no device is named. ``catalogue`` finds models;
    without one, none is looked for.
    """

    def __init__(self, folder: Path, prepare: Prepare | None = None, catalogue: ModelCatalogue | None = None) -> None:
        self._folder, self._prepare, self._catalogue = folder, prepare, catalogue

    def facts(self, distributions: Sequence[str]) -> EnvironmentFacts:
        """Versions are by the name asked for; ``mlx_lm`` and ``mlx-lm`` are the same distribution.

        Results that were recorded since the commit, in ``folder/data``, don't make the code dirty.
        """
        runtime = self._prepare() if self._prepare is not None else None
        return EnvironmentFacts(
            commit=self._git("rev-parse", "HEAD"),
            dirty=bool(self._git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)data")),
            python=platform.python_version(),
            platform=platform.platform(),
            cpu=f"{_cpu_name()}, {os.cpu_count()} cores",
            device=runtime.device if runtime else "none",
            dtype=runtime.compute_dtype if runtime else "none",
            versions=_versions([*_ALWAYS, *distributions]),
        )

    def missing(self, components: Sequence[str]) -> Sequence[str]:
        """Those that can't be imported."""
        return [component for component in components if not _exists(component)]

    def model_problem(self, model: str) -> str:
        """Why it can't be provided; a model that is not here yet is fetched, as loading it would."""
        if self._catalogue is None:
            return ""
        try:
            self._catalogue.provide(model)
        except ModelError as error:
            return str(error)
        return ""

    def _git(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=self._folder, capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip()


def _versions(distributions: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in dict.fromkeys(distributions):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _exists(component: str) -> bool:
    module, _, name = component.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError:
        return False
    return not name or hasattr(found, name)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
