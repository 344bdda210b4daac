"""Links between reports, results, scripts and decisions: relative, so that they work on a code host and on disk."""

import os
import re
from pathlib import Path

from attrs import field, frozen

_ADR = re.compile(r"ADR-(\d{4})")


@frozen
class Link:
    """``target`` is relative to the page that shows it; empty where there is nothing to lead to."""

    text: str
    target: str = ""


@frozen
class Links:
    """Links out of the pages in ``folder``. ``adrs`` is the folder of decisions, where there is one."""

    folder: Path
    adrs: Path | None = None
    _decisions: dict[str, Path] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        found = sorted(self.adrs.glob("[0-9][0-9][0-9][0-9]-*.md")) if self.adrs else []
        object.__setattr__(self, "_decisions", {path.name[:4]: path for path in found})

    def adr(self, name: str) -> Link:
        """``ADR-0004``, leading to its file."""
        matched = _ADR.fullmatch(name)
        path = self._decisions.get(matched.group(1)) if matched else None
        return Link(name) if path is None else Link(name, self._relative(path))

    def report(self, experiment_id: str, suffix: str) -> Link:
        """``EXP-001``, leading to its report in the same format where it has run."""
        stem = stem_of(experiment_id)
        ran = (self.folder / f"{stem}_results.json").is_file()
        return Link(experiment_id, f"{stem}_report{suffix}" if ran else "")

    def file(self, path: str) -> Link:
        """A file of the experiment, by the last parts of its path."""
        return self._file(Path(path))

    def beside(self, name: str) -> Link:
        """A file in the folder of the pages."""
        return self._file(self.folder / name, exists=True)

    def _file(self, path: Path, *, exists: bool = False) -> Link:
        text = "/".join(path.absolute().parts[-3:])
        return Link(text, self._relative(path)) if exists or path.exists() else Link(str(path))

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()


def stem_of(experiment_id: str) -> str:
    """``exp_001`` for EXP-001."""
    return experiment_id.lower().replace("-", "_")
