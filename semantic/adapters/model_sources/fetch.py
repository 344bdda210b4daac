"""Fetches one wheel from the package index the user has configured, with the user's own pip."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from semantic.domain.errors import DownloadError

Fetch = Callable[[str, Path], Path]
"""``fetch(requirement, folder)`` puts one wheel into ``folder`` and returns its path, or raises
``DownloadError``.
"""


def pip_download(requirement: str, folder: Path) -> Path:
    """``pip download`` of one wheel without its dependencies: index, proxy and certificates as pip has them
    configured.

    Everything pip says goes to standard error; its progress bar appears where that is a terminal.
    """
    terminal = sys.stderr.isatty()
    command = [sys.executable, "-m", "pip", "download", requirement, "--dest", str(folder)]
    command += ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    command += ["--progress-bar", "on"] if terminal else ["--progress-bar", "off", "--quiet", "--no-input"]
    output = None if terminal else subprocess.PIPE
    try:
        done = subprocess.run(command, stdout=output or sys.stderr, stderr=output, text=True, check=False)
    except OSError as exc:
        raise DownloadError(f"pip could not be started to fetch {requirement}: {exc}") from exc
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = "".join(text for text in (done.stdout, done.stderr) if text).strip().splitlines()
        last = f": {said[-1]}" if said else ""
        raise DownloadError(f"pip could not fetch {requirement} (exit code {done.returncode}){last}")
    return wheels[0]
