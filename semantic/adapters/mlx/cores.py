"""How many cores this process may really use."""

import os
from pathlib import Path

import psutil


def usable_cores() -> int:
    """Physical cores, bounded by the process's CPU affinity and its container's CPU quota. At least 1."""
    bounds = [psutil.cpu_count(logical=False) or os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        bounds.append(len(os.sched_getaffinity(0)))
    quota = _cgroup_quota()
    if quota is not None:
        bounds.append(quota)
    return max(1, min(bounds))


def _cgroup_quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Whole cores that a cgroup v2 quota grants, rounded up; None where there is no quota."""
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None
