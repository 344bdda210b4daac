"""The machine and the code, as an experiment's report states them."""

import importlib
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from semantic.adapters.mlx.runtime import Prepare
from semantic.domain.experiments import EnvironmentFacts

_ALWAYS = ("mlx", "mlx-lm", "numpy", "semantic-kv")


class SystemEnvironment:
    """Reads the running system; ``folder`` is where the repository is looked for.

    ``prepare`` is how this composition readies MLX; without one, no device is named.
    """

    def __init__(self, folder: Path, prepare: Prepare | None = None) -> None:
        self._folder, self._prepare = folder, prepare

    def facts(self, distributions: Sequence[str]) -> EnvironmentFacts:
        """Versions are by the name asked for; ``mlx_lm`` and ``mlx-lm`` are the same distribution."""
        runtime = self._prepare() if self._prepare is not None else None
        return EnvironmentFacts(
            commit=self._git("rev-parse", "HEAD"),
            dirty=bool(self._git("status", "--porcelain", "--untracked-files=no")),
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
