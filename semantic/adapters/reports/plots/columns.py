"""Charts of a data table: measured columns over the column that says how large, or over the run.

Columns say what they hold by their names: ``Time (s)`` is measured in seconds, ``Prompt tokens`` is a size.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from semantic.adapters.reports.plots.chart import Axis, Chart, Line, xy_chart
from semantic.adapters.reports.tables import DataTable
from semantic.domain.experiments import Cell, Point

_UNIT = re.compile(r"(?P<name>.+?) \((?P<unit>[^()]+)\)")
_SIZE = re.compile(r"token|length|context|prefix|batch|block", re.IGNORECASE)
_BARE = re.compile(r"ratio|divergence", re.IGNORECASE)
_MEMORY_UNITS = ("B", "bytes", "kB", "MB", "MiB", "GB", "GiB")
_TIME_UNITS = ("s", "ms")
_RUN = "run"
_NOT_FINITE = ("nan", "inf", "-inf")


def charts_of_table(table: DataTable, *, memory: bool = True, divergence: bool = True) -> Iterable[Chart | None]:
    """One chart for each unit that something is measured in; without those that are drawn from better sources."""
    columns = {name: _numbers(table, name) for name in table.columns}
    numeric = {name: values for name, values in columns.items() if values}
    units: dict[str, list[str]] = defaultdict(list)
    for name in numeric:
        measured = _UNIT.fullmatch(name)
        if measured or _BARE.search(name):
            units[measured["unit"] if measured else name].append(name)
    sizes = [name for name in numeric if _SIZE.search(name) and not _UNIT.fullmatch(name) and not _BARE.search(name)]
    size = next((name for name in sizes if len(set(numeric[name].values())) > 1), None)
    for unit, names in units.items():
        if (unit in _MEMORY_UNITS and not memory) or ("divergence" in unit.lower() and not divergence):
            continue
        over = None if unit in _MEMORY_UNITS else size
        yield _chart(table, numeric, names, over)


def _chart(table: DataTable, numeric: dict[str, dict[int, float]], names: list[str], over: str | None) -> Chart | None:
    """``over`` names the column of the x axis; None is the run, which takes at least three of them."""
    at = numeric[over] if over else {index: float(row.run) for index, row in enumerate(table.rows)}
    if over is None and len(set(at.values())) < 3:
        return None
    lines = [_line(_bare(name), at, numeric[name]) for name in names]
    title = f"{', '.join(line.name for line in lines)} over {_within(over or _RUN)}"
    return xy_chart(title, Axis(over or _RUN), _y_axis(names), lines)


def _line(name: str, at: dict[int, float], values: dict[int, float]) -> Line:
    """Joined where every position has one value."""
    points = sorted((at[index], value) for index, value in values.items() if index in at)
    joined = len({x for x, _ in points}) == len(points)
    return Line(name, tuple(Point(x, y) for x, y in points), joined)


def _y_axis(names: list[str]) -> Axis:
    measured = _UNIT.fullmatch(names[0])
    if measured is None:
        return Axis(names[0])
    unit = measured["unit"]
    kind = "memory" if unit in _MEMORY_UNITS else "time" if unit in _TIME_UNITS else "measured"
    return Axis(measured["name"] if len(names) == 1 else kind, unit)


def _bare(name: str) -> str:
    measured = _UNIT.fullmatch(name)
    return measured["name"] if measured else name


def _within(name: str) -> str:
    """As it reads inside a sentence."""
    return name[:1].lower() + name[1:]


def _numbers(table: DataTable, name: str) -> dict[int, float]:
    """By the row's position; empty unless every cell that is there is a number."""
    found: dict[int, float] = {}
    for index, row in enumerate(table.rows):
        value: Cell = row.cells.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or (isinstance(value, str) and value not in _NOT_FINITE):
            return {}
        found[index] = float(value)
    return found
