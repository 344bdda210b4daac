"""A chart with its caption, legend and note, ready for a page."""

from attrs import frozen

from semantic.adapters.reports.plots.chart import Chart, IntervalChart
from semantic.adapters.reports.plots.draw import draw, draw_limit, draw_marker


@frozen
class Key:
    """One entry of a legend: ``svg`` is its sign."""

    svg: str
    text: str


@frozen
class Figure:
    """``svg`` and the keys' signs are markup that is safe as it is; the texts are plain."""

    title: str
    svg: str
    legend: tuple[Key, ...]
    note: str


def figure_of(chart: Chart) -> Figure:
    """Draw the chart; say what its signs mean, and what could not be drawn."""
    return Figure(chart.title, draw(chart), _legend(chart), _note(chart.dropped))


def _legend(chart: Chart) -> tuple[Key, ...]:
    if isinstance(chart, IntervalChart):
        limits = sorted({bar.limit for bar in chart.bars if bar.limit is not None})
        return (Key(draw_limit(), f"limit: {', '.join(f'{limit:g}' for limit in limits)}"),) if limits else ()
    if len(chart.lines) == 1:
        return ()
    return tuple(Key(draw_marker(index), line.name) for index, line in enumerate(chart.lines))


def _note(dropped: int) -> str:
    if not dropped:
        return ""
    return f"{dropped} {'value is' if dropped == 1 else 'values are'} not a finite number and not drawn."
