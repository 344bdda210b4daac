"""Which charts an execution's data call for.

What the experiment named is drawn: samples as intervals, series as lines, compared sequences by where they diverge.
Where it named none of its own (memory is noted without its doing), the columns of its data table are drawn.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from semantic.adapters.reports.plots.chart import Axis, Bar, Chart, Line, interval_chart, xy_chart
from semantic.adapters.reports.plots.columns import charts_of_table
from semantic.adapters.reports.tables import tables_of
from semantic.application.lab import MEMORY_FIGURE
from semantic.domain.experiments import ComparedSequence, CriterionResult, Execution, Point, Samples, Series

MOST_CHARTS = 12
"""Of one report; the results file has the rest."""


def charts_of(execution: Execution) -> tuple[Chart, ...]:
    """All charts, in the order in which they help a reader: what decides first, memory last."""
    memory = [each for each in execution.series if each.figure == MEMORY_FIGURE]
    series = [each for each in execution.series if each.figure != MEMORY_FIGURE]
    charts: list[Chart | None] = [*_of_samples(execution.samples)]
    if not execution.samples:
        charts.extend(_of_criteria(execution.criteria))
    charts.extend(_of_series(series))
    charts.append(_of_comparisons(execution.comparisons))
    if not execution.samples and not series:
        for table in tables_of(execution.rows):
            charts.extend(charts_of_table(table, memory=not memory, divergence=not execution.comparisons))
    charts.extend(_of_series(memory))
    return tuple(chart for chart in charts if chart is not None)[:MOST_CHARTS]


def _of_samples(samples: Sequence[Samples]) -> Iterable[Chart | None]:
    figures: dict[tuple[str, str], list[Bar]] = defaultdict(list)
    for each in samples:
        estimate = each.estimate
        bar = Bar(each.name, estimate.median, estimate.low, estimate.high, each.values, each.limit)
        figures[each.figure, each.unit].append(bar)
    for (figure, unit), bars in figures.items():
        yield interval_chart(figure, Axis("median and interval", unit), bars)


def _of_criteria(criteria: Sequence[CriterionResult]) -> Iterable[Chart | None]:
    units: dict[str, list[Bar]] = defaultdict(list)
    for each in criteria:
        if each.measured is not None and each.low is not None and each.high is not None:
            name = f"{each.criterion_id}: {each.statement}"
            units[each.unit].append(Bar(name, each.measured, each.low, each.high, limit=each.limit))
    for unit, bars in units.items():
        yield interval_chart("Criteria with an interval", Axis("measured", unit), bars)


def _of_series(series: Sequence[Series]) -> Iterable[Chart | None]:
    figures: dict[tuple[str, str, str], list[Series]] = defaultdict(list)
    for each in series:
        figures[each.figure, each.x_unit, each.y_unit].append(each)
    for (figure, x_unit, y_unit), members in figures.items():
        x, y = Axis(members[0].x_label, x_unit), Axis(members[0].y_label, y_unit)
        yield xy_chart(figure, x, y, [Line(each.name, each.points) for each in members])


def _of_comparisons(comparisons: Sequence[ComparedSequence]) -> Chart | None:
    """Nothing to see where all agree."""
    if all(each.comparison.agrees for each in comparisons):
        return None
    kinds: dict[str, list[Point]] = {"equal to the end": [], "tie": [], "mismatch": []}
    for position, each in enumerate(comparisons, start=1):
        found = each.comparison
        kind = "equal to the end" if found.first_divergence is None else "tie" if found.is_tie else "mismatch"
        at = found.compared if found.first_divergence is None else found.first_divergence
        kinds[kind].append(Point(position, at, run=each.run))
    lines = [Line(kind, tuple(points), joined=False) for kind, points in kinds.items()]
    return xy_chart(
        "Position of the first divergence", Axis("sequence, in order of comparison"), Axis("position", "tokens"), lines
    )
