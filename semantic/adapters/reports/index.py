"""The index: a line for each experiment, with what decides it."""

from collections import Counter
from collections.abc import Sequence

from attrs import frozen

from semantic.adapters.reports.formats import DECISION_MARK, STATUS, day
from semantic.adapters.reports.links import Link, Links, stem_of
from semantic.application.ports.experiments import ListedExperiment
from semantic.domain.experiments import CriterionResult, Level, Status


@frozen(kw_only=True)
class IndexLine:
    """``trouble`` says why an experiment, or its results, can't be read. ``figures`` are its must-pass criteria."""

    id: str
    title: str
    status: str
    decision: str = ""
    profile: str = ""
    date: str = ""
    figures: tuple[CriterionResult, ...] = ()
    trouble: str = ""
    reports: tuple[Link, ...] = ()
    data: Link | None = None
    adrs: tuple[Link, ...] = ()
    decision_class: str = ""


def index_lines(experiments: Sequence[ListedExperiment], links: Links) -> tuple[IndexLine, ...]:
    """In the order given."""
    return tuple(_line(each, links) for each in experiments)


def summary_of(experiments: Sequence[ListedExperiment]) -> str:
    """``11 experiments: 8 GO, 1 NO-GO, 2 not run.``"""
    counts = Counter(
        "unreadable" if each.error else each.document.latest.decision.value if each.document else "not run"
        for each in experiments
    )
    parts = [
        f"{counts[kind]} {kind}" for kind in ("GO", "CONDITIONAL GO", "NO-GO", "not run", "unreadable") if counts[kind]
    ]
    noun = "experiment" if len(experiments) == 1 else "experiments"
    return f"{len(experiments)} {noun}: {', '.join(parts)}." if parts else "There are no experiments."


def _line(each: ListedExperiment, links: Links) -> IndexLine:
    entry = each.entry
    declared = entry.experiment.declaration if entry.experiment else None
    title = declared.title if declared else entry.source
    if each.error is not None:
        return IndexLine(id=entry.id, title=title, status="⛔ UNREADABLE", trouble=str(each.error))
    assert declared is not None, "an entry without an error has an experiment"
    adrs = tuple(links.adr(name) for name in declared.related.adrs)
    if each.document is None:
        return IndexLine(id=entry.id, title=title, status=STATUS[Status.PENDING], adrs=adrs)
    latest, stem = each.document.latest, stem_of(entry.id)
    return IndexLine(
        id=entry.id,
        title=title,
        status=STATUS[latest.status] + (" (partial)" if not latest.is_complete else ""),
        decision=f"{DECISION_MARK[latest.decision]} {latest.decision}",
        profile=latest.profile,
        date=day(latest.started_at),
        figures=tuple(result for result in latest.criteria if result.level is Level.MUST),
        reports=(Link("Markdown", f"{stem}_report.md"), Link("HTML", f"{stem}_report.html")),
        data=Link("JSON", f"{stem}_results.json"),
        adrs=adrs,
        decision_class=latest.decision.value,
    )
