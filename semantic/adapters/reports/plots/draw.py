"""Charts as SVG elements. Colours are CSS variables of the page (``--s0`` ...), text is text.

The drawing is as wide as a phone, in pixels: scaled up on larger screens, never down below legibility.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from attrs import frozen

from semantic.adapters.reports.formats import cut
from semantic.adapters.reports.plots.chart import Bar, Chart, IntervalChart, Line, XYChart
from semantic.adapters.reports.plots.scale import Scale, scale_over, tick_labels
from semantic.domain.experiments import Point

WIDTH, HEIGHT = 360, 250
COLOURS = 5
MOST_POINTS = 400
"""More points of one line are thinned out evenly; the results file has them all."""

_MARKED_POINTS = 60
_CHAR = 6.7
"""Width of a character of the labels, in pixels, a little more than the average."""

_MARKERS = (
    "M-3.5,0 a3.5,3.5 0 1,0 7,0 a3.5,3.5 0 1,0 -7,0",
    "M-3.2,-3.2 h6.4 v6.4 h-6.4 z",
    "M0,-4.2 L4,3.2 H-4 z",
    "M0,-4.6 L4.6,0 L0,4.6 L-4.6,0 z",
)


@frozen
class _Frame:
    left: float
    top: float
    right: float
    bottom: float


def draw(chart: Chart) -> str:
    """The chart as an ``svg`` element."""
    root = _draw_intervals(chart) if isinstance(chart, IntervalChart) else _draw_xy(chart)
    return ET.tostring(root, encoding="unicode")


def draw_marker(index: int) -> str:
    """The sign of the line of this number, for a legend."""
    root = _key()
    _marker(root, index, 0, 0)
    return ET.tostring(root, encoding="unicode")


def draw_limit() -> str:
    """The sign of a limit, for a legend."""
    root = _key()
    _add(root, "line", x1=0, y1=-6, x2=0, y2=6, **{"class": "limit"})
    return ET.tostring(root, encoding="unicode")


def _draw_xy(chart: XYChart) -> ET.Element:
    points = [point for line in chart.lines for point in line.points]
    heights = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    y = scale_over(heights, HEIGHT - 44, 30)
    ticks = y.ticks()
    labels = tick_labels(ticks)
    frame = _Frame(max(map(len, labels), default=1) * _CHAR + 12, 30, WIDTH - 16, HEIGHT - 44)
    x = scale_over([point.x for point in points], frame.left, frame.right)
    root = _canvas(HEIGHT, _describe(chart))
    _text(root, str(chart.y), 2, 14)
    for tick, label in zip(ticks, labels, strict=True):
        _add(root, "line", x1=frame.left, y1=y(tick), x2=frame.right, y2=y(tick), **{"class": "grid"})
        _text(root, label, frame.left - 6, y(tick) + 4, "end")
    _x_axis(root, x, frame, str(chart.x))
    for index, line in enumerate(chart.lines):
        _draw_line(root, index, line, x, y)
    return root


def _draw_line(root: ET.Element, index: int, line: Line, x: Scale, y: Scale) -> None:
    points = _thinned(line.points)
    group = _add(root, "g", **{"class": f"s{index % COLOURS}"})
    if line.joined and len(points) > 1:
        path = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in points)
        _add(group, "polyline", points=path, **{"class": "line"})
    for point in points:
        if point.low is not None and point.high is not None:
            _add(group, "line", x1=x(point.x), x2=x(point.x), y1=y(point.low), y2=y(point.high), **{"class": "line"})
        if not line.joined or len(points) <= _MARKED_POINTS:
            _marker(group, index, x(point.x), y(point.y), f"{line.name}: {point.y:.4g} at {point.x:g}")


def _draw_intervals(chart: IntervalChart) -> ET.Element:
    row, top = 44, 6
    frame = _Frame(10, top, WIDTH - 10, top + row * len(chart.bars))
    reach = [value for bar in chart.bars for value in (bar.low, bar.high, bar.median, *bar.values)]
    limits = [bar.limit for bar in chart.bars if bar.limit is not None]
    x = scale_over([*reach, *limits], frame.left, frame.right, may_be_log=False)
    root = _canvas(frame.bottom + 44, _describe(chart))
    _x_axis(root, x, frame, str(chart.axis))
    for index, bar in enumerate(chart.bars):
        _draw_bar(root, bar, x, top + row * index, row)
    return root


def _draw_bar(root: ET.Element, bar: Bar, x: Scale, top: float, row: float) -> None:
    middle = top + row - 14
    value = f"{bar.median:.3g} [{bar.low:.3g}, {bar.high:.3g}]"
    room = int((WIDTH - 20) / _CHAR) - len(value) - 2
    name = _text(root, cut(bar.name, max(room, 8)), 10, top + 14)
    _add(name, "title").text = bar.name
    _text(root, value, WIDTH - 10, top + 14, "end")
    if bar.limit is not None:
        _add(root, "line", x1=x(bar.limit), x2=x(bar.limit), y1=top + 18, y2=top + row, **{"class": "limit"})
    group = _add(root, "g", **{"class": "s0"})
    for each in bar.values:
        _add(group, "circle", cx=x(each), cy=middle, r=3, **{"class": "value"})
    _add(group, "line", x1=x(bar.low), x2=x(bar.high), y1=middle, y2=middle, **{"class": "interval"})
    for end in (bar.low, bar.high):
        _add(group, "line", x1=x(end), x2=x(end), y1=middle - 5, y2=middle + 5, **{"class": "interval"})
    _marker(group, 3, x(bar.median), middle, f"{bar.name}: {value}", colour=0)


def _x_axis(root: ET.Element, x: Scale, frame: _Frame, label: str) -> None:
    _add(root, "line", x1=frame.left, y1=frame.bottom, x2=frame.right, y2=frame.bottom, **{"class": "axis"})
    beyond = -1.0
    ticks = x.ticks()
    for tick, text in zip(ticks, tick_labels(ticks), strict=True):
        at = x(tick)
        _add(root, "line", x1=at, y1=frame.bottom, x2=at, y2=frame.bottom + 4, **{"class": "axis"})
        if at - len(text) * _CHAR / 2 > beyond:
            _text(root, text, at, frame.bottom + 17, "middle")
            beyond = at + len(text) * _CHAR / 2 + 4
    _text(root, label, frame.right, frame.bottom + 35, "end")


def _canvas(height: float, description: str) -> ET.Element:
    return ET.Element("svg", {"viewBox": f"0 0 {WIDTH} {height:g}", "role": "img", "aria-label": description})


def _key() -> ET.Element:
    return ET.Element(
        "svg", {"class": "key", "viewBox": "-6 -6 12 12", "width": "12", "height": "12", "aria-hidden": "true"}
    )


def _describe(chart: Chart) -> str:
    if isinstance(chart, IntervalChart):
        bars = "; ".join(f"{bar.name} {bar.median:.3g} [{bar.low:.3g}, {bar.high:.3g}]" for bar in chart.bars)
        return f"{chart.title}, {chart.axis}: {bars}"
    lines = "; ".join(f"{line.name}, {_range(line.points)}" for line in chart.lines)
    return f"{chart.title}: {chart.y} over {chart.x}. {lines}"


def _range(points: Sequence[Point]) -> str:
    heights = [point.y for point in points]
    noun = "point" if len(points) == 1 else "points"
    return f"{len(points)} {noun} from {min(heights):.4g} to {max(heights):.4g}"


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Evenly, the last one kept."""
    if len(points) <= MOST_POINTS:
        return points
    stride = -(-len(points) // MOST_POINTS)
    return [*points[::stride], points[-1]]


def _marker(
    parent: ET.Element, index: int, x: float, y: float, title: str = "", *, colour: int | None = None
) -> ET.Element:
    shape = _MARKERS[index % len(_MARKERS)]
    chosen = (index if colour is None else colour) % COLOURS
    path = _add(parent, "path", d=shape, transform=f"translate({x:.1f},{y:.1f})", **{"class": f"mark s{chosen}"})
    if title:
        _add(path, "title").text = title
    return path


def _text(parent: ET.Element, text: str, x: float, y: float, anchor: str = "start") -> ET.Element:
    element = _add(parent, "text", x=x, y=y, **{"text-anchor": anchor})
    element.text = text
    return element


def _add(parent: ET.Element, tag: str, **attributes: float | str) -> ET.Element:
    return ET.SubElement(
        parent,
        tag,
        {
            name: value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
            for name, value in attributes.items()
        },
    )
