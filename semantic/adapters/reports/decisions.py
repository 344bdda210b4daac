"""The texts of a project's decisions."""

from collections.abc import Mapping
from pathlib import Path


def read_decisions(folder: Path) -> Mapping[str, str] | None:
    """``ADR-0004`` and so on with their texts, from files ``0004-title.md``; None where there is no such folder."""
    if not folder.is_dir():
        return None
    return {
        f"ADR-{path.name[:4]}": path.read_text(encoding="utf-8")
        for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]-*.md"))
    }
