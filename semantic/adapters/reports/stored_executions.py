"""Stored executions by what someone types to name them: a file, a folder, an experiment, an earlier execution."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from semantic.adapters.reports.folder_catalogue import normalised_id
from semantic.adapters.reports.json_store import JsonResultsStore
from semantic.domain.errors import NotComparableError
from semantic.domain.experiments import ResultsDocument, Side, summarise

_ID = re.compile(r"(exp[-_ ]?)?\d{1,3}", re.IGNORECASE)


def find_pairs(first: str, second: str, data: Path) -> Sequence[tuple[Side, Side]]:
    """What to compare with what. Raises ``NotComparableError``, and what reading results raises.

    Two folders give a pair for every experiment that both have, anything else one pair.
    """
    if Path(first).is_dir() and Path(second).is_dir():
        one, other = _in_folder(Path(first)), _in_folder(Path(second))
        pairs = [(one[id], other[id]) for id in one if id in other]
        if not pairs:
            raise NotComparableError(
                f"{first} has {', '.join(one) or 'no results'}, {second} has {', '.join(other) or 'no results'}: "
                "none in both"
            )
        return pairs
    if Path(first).is_dir() or Path(second).is_dir():
        return [_with_folder(first, second, data)]
    return [(_named(first, data), _named(second, data))]


def _with_folder(first: str, second: str, data: Path) -> tuple[Side, Side]:
    """A single execution, and that of the same experiment in the folder."""
    folder = Path(first if Path(first).is_dir() else second)
    single = _named(second if Path(first).is_dir() else first, data)
    known = _in_folder(folder)
    id = single.label.split(" ")[0]
    if id not in known:
        raise NotComparableError(f"{folder} has no results of {id}; it has {', '.join(known) or 'none'}")
    return (known[id], single) if Path(first).is_dir() else (single, known[id])


def _in_folder(folder: Path) -> Mapping[str, Side]:
    store = JsonResultsStore(folder)
    sides = {}
    for path in sorted(folder.glob("exp_*_results*.json")):
        document = store.read(path)
        assert document is not None, "it was listed"
        side = _latest(document, str(path))
        sides[f"{document.latest.experiment_id} {document.latest.variant}".strip()] = side
    return sides


def _named(text: str, data: Path) -> Side:
    path = Path(text)
    store = JsonResultsStore(data)
    if path.is_file():
        document = store.read(path)
        assert document is not None, "the file is there"
        return _latest(document, text)
    name, _, which = text.partition("@")
    if not _ID.fullmatch(name):
        raise NotComparableError(f"{text} is no results file, no folder, and no execution such as EXP-001 or EXP-001@1")
    id = normalised_id(name)
    document = store.load(id)
    if document is None:
        raise NotComparableError(f"{id} has no results in {data}; run it, or name their folder with --data")
    return _latest(document, store.location(id)) if which in ("", "0") else _earlier(document, which)


def _latest(document: ResultsDocument, where: str) -> Side:
    latest = document.latest
    label = f"{latest.experiment_id} {latest.variant}".strip()
    return Side(
        label=f"{label} of {latest.started_at:%Y-%m-%d %H:%M} ({where})",
        summary=summarise(latest),
        samples=latest.samples,
    )


def _earlier(document: ResultsDocument, which: str) -> Side:
    id, everything = document.latest.experiment_id, [summarise(document.latest), *document.history]
    if which.isdigit() and len(which) < 4:
        found = everything[int(which) :][:1]
    else:
        found = [past for past in everything if past.started_at.isoformat(sep=" ").startswith(which.replace("T", " "))]
    if not found:
        there_are = ", ".join(f"{past.started_at:%Y-%m-%dT%H:%M}" for past in everything)
        raise NotComparableError(f"{id} has no execution {which!r}; its executions started {there_are}")
    return Side(label=f"{id} of {found[0].started_at:%Y-%m-%d %H:%M}", summary=found[0])
