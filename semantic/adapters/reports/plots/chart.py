"""What can be drawn: lines or points over two axes, and intervals in rows. Only finite numbers get this far."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from attrs import frozen

from semantic.domain.experiments import Point


@frozen
class Axis:
    """A name and a unit; the unit is empty for plain numbers."""

    label: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


@frozen
class Line:
    """Points under one name. ``joined`` draws the line between them."""

    name: str
    points: tuple[Point, ...]
    joined: bool = True


@frozen
class XYChart:
    """Lines on one pair of axes. ``dropped`` counts points that are no finite numbers."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    dropped: int = 0


@frozen
class Bar:
    """A median with its interval and the values it was taken from. ``limit`` is worth a mark; None for none."""

    name: str
    median: float
    low: float
    high: float
    values: tuple[float, ...] = ()
    limit: float | None = None


@frozen
class IntervalChart:
    """Intervals in rows over one axis. ``dropped`` counts bars that are no finite numbers."""

    title: str
    axis: Axis
    bars: tuple[Bar, ...]
    dropped: int = 0


_LARGEST = 1e100

Chart: TypeAlias = XYChart | IntervalChart


def xy_chart(title: str, x: Axis, y: Axis, lines: Iterable[Line]) -> XYChart | None:
    """A chart of the points that can be drawn; None where there is none."""
    dropped, kept = 0, []
    for line in lines:
        points = tuple(_without_endless_interval(point) for point in line.points if finite((point.x, point.y)))
        dropped += len(line.points) - len(points)
        if points:
            kept.append(Line(line.name, points, line.joined))
    return XYChart(title, x, y, tuple(kept), dropped) if kept else None


def interval_chart(title: str, axis: Axis, bars: Iterable[Bar]) -> IntervalChart | None:
    """A chart of the bars that can be drawn; None where there is none."""
    given = tuple(bars)
    kept = tuple(
        Bar(
            bar.name, bar.median, bar.low, bar.high, tuple(value for value in bar.values if finite((value,))), bar.limit
        )
        for bar in given
        if finite((bar.median, bar.low, bar.high))
    )
    return IntervalChart(title, axis, kept, len(given) - len(kept)) if kept else None


def finite(values: Sequence[float]) -> bool:
    """Whether none of them is NaN, infinite, or so large that its neighbours on an axis would be."""
    return all(abs(value) <= _LARGEST for value in values)


def _without_endless_interval(point: Point) -> Point:
    if point.low is None or point.high is None or finite((point.low, point.high)):
        return point
    return Point(point.x, point.y, run=point.run)
