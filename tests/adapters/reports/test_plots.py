"""Plots: round ticks, every point where it belongs, and the charts that the data call for."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.adapters.fakes.experiments import example_execution
from semantic.adapters.reports.plots.chart import Axis, Bar, IntervalChart, Line, XYChart, interval_chart, xy_chart
from semantic.adapters.reports.plots.choose import charts_of
from semantic.adapters.reports.plots.draw import MOST_POINTS, draw
from semantic.adapters.reports.plots.figure import figure_of
from semantic.adapters.reports.plots.scale import Scale, scale_over, tick_labels
from semantic.domain.experiments import (
    ComparedSequence,
    DataRow,
    Estimate,
    Measurement,
    Point,
    Samples,
    Series,
    TokenComparison,
    at_most,
    judge,
    must,
)

NAN, INF = float("nan"), float("inf")


def test_a_scale_maps_its_ends_to_the_ends() -> None:
    assert [Scale(0, 10, 100, 200)(value) for value in (0, 5, 10)] == [100, 150, 200]
    assert [Scale(1, 100, 0, 200, is_log=True)(value) for value in (1, 10, 100)] == [0, 100, 200]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 1.3, [0, 0.5, 1.0]),
        (0.61, 0.89, [0.7, 0.8]),
        (500, 760, [500, 600, 700]),
        (-3, 3, [-2, 0, 2]),
    ],
)
def test_linear_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert Scale(low, high, 0, 1).ticks() == ticks


def test_logarithmic_ticks_thin_out_as_the_range_grows() -> None:
    assert Scale(0.04, 1.5, 0, 1, is_log=True).ticks() == pytest.approx([0.05, 0.1, 0.2, 0.5, 1])
    assert Scale(0.03, 50, 0, 1, is_log=True).ticks() == pytest.approx([0.1, 1, 10])
    assert Scale(1e-6, 1e6, 0, 1, is_log=True).ticks() == pytest.approx([1e-6, 1e-3, 1, 1e3, 1e6])


def test_ticks_between_whole_numbers_are_whole() -> None:
    assert scale_over([5, 6], 0, 1).ticks() == [5, 6]
    assert scale_over([1, 2, 3], 0, 1).ticks() == [0, 1, 2, 3]
    assert scale_over([0, 0.5], 0, 1).ticks() == [0, 0.2, 0.4]


def test_an_axis_begins_at_zero_where_zero_is_near() -> None:
    assert scale_over([3, 10], 0, 1).low == 0
    assert scale_over([900, 1000], 0, 1).low == pytest.approx(894)
    assert scale_over([-5, 10], 0, 1).low < -5


def test_an_axis_is_logarithmic_only_where_values_crowd_at_its_beginning() -> None:
    assert scale_over([256, 512, 1024, 2048, 4096, 8192, 16384], 0, 1).is_log
    assert not scale_over(range(1, 41), 0, 1).is_log
    assert not scale_over([0, 1, 1000], 0, 1).is_log
    assert not scale_over([1, 2, 1000], 0, 1, may_be_log=False).is_log


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-9])
def test_equal_values_still_have_a_scale_around_them(value: float) -> None:
    scale = scale_over([value, value], 0, 1)
    assert 0 <= scale(value) <= 1
    assert len(scale.ticks()) > 1


def test_tick_labels_are_short_and_tell_ticks_apart() -> None:
    assert tick_labels([0, 0.25, 512, 2000, 16_000, 250_000, 2_500_000, 3e9]) == [
        *("0", "0.25", "512", "2000", "16k", "250k", "2.5M", "3G"),
    ]
    assert tick_labels([513.1, 513.10005, 513.1001]) == ["513.1", "513.10005", "513.1001"]
    assert tick_labels([20_000.0, 20_001.0]) == ["20k", "20.001k"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=8))
def test_any_values_fit_their_scale_and_have_few_ticks_inside(values: list[float]) -> None:
    scale = scale_over(values, 30, 350)
    assert all(29.99 <= scale(value) <= 350.01 for value in values)
    ticks = scale.ticks()
    assert len(ticks) <= 9
    assert all(29 <= scale(tick) <= 351 for tick in ticks)
    assert max(map(len, tick_labels(ticks)), default=0) <= 15


def test_points_that_are_no_finite_numbers_are_left_out_and_counted() -> None:
    chart = xy_chart("t", Axis("x"), Axis("y"), [Line("a", (Point(1, NAN), Point(INF, 1), Point(2, 3))), Line("b", ())])
    assert chart == XYChart("t", Axis("x"), Axis("y"), (Line("a", (Point(2, 3),)),), dropped=2)
    assert xy_chart("t", Axis("x"), Axis("y"), [Line("a", (Point(1e200, 1),))]) is None


def test_an_interval_without_end_is_left_out_and_its_point_stays() -> None:
    chart = xy_chart("t", Axis("x"), Axis("y"), [Line("a", (Point(1, 2, NAN, 3, run=4),))])
    assert chart is not None
    assert chart.lines[0].points == (Point(1, 2, run=4),)


def test_bars_that_are_no_finite_numbers_are_left_out_and_counted() -> None:
    bars = [Bar("a", 1, 0.5, 1.5, (1, NAN)), Bar("b", NAN, 1, 2)]
    assert interval_chart("t", Axis("x"), bars) == IntervalChart(
        "t", Axis("x"), (Bar("a", 1, 0.5, 1.5, (1,)),), dropped=1
    )
    assert interval_chart("t", Axis("x"), bars[1:]) is None


def svg(chart: Any) -> ET.Element:
    return ET.fromstring(draw(chart))


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter("text")]


def test_a_line_chart_has_labelled_axes_with_units_and_a_mark_for_each_point() -> None:
    points = (Point(0, 1), Point(10, 2, 1.5, 2.5))
    root = svg(XYChart("T", Axis("time", "s"), Axis("memory", "MB"), (Line("resident", points),)))
    assert "memory (MB)" in texts(root)
    assert "time (s)" in texts(root)
    assert root.get("aria-label") == "T: memory (MB) over time (s). resident, 2 points from 1 to 2"
    assert [title.text for title in root.iter("title")] == ["resident: 1 at 0", "resident: 2 at 10"]
    assert len(list(root.iter("polyline"))) == 1


def test_points_that_are_not_joined_have_no_line_between_them() -> None:
    root = svg(XYChart("T", Axis("x"), Axis("y"), (Line("a", (Point(0, 1), Point(1, 2)), joined=False),)))
    assert list(root.iter("polyline")) == []
    assert len(list(root.iter("path"))) == 2


def test_everything_is_drawn_inside_the_picture() -> None:
    points = tuple(Point(x, y, y * 0.9, y * 1.1) for x, y in ((256, 0.04), (4096, 0.5), (16384, 48)))
    root = svg(XYChart("T", Axis("x"), Axis("y"), (Line("a", points),)))
    width, height = (float(side) for side in root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        for name, limit in (("x1", width), ("x2", width), ("x", width), ("y1", height), ("y2", height), ("y", height)):
            assert 0 <= float(element.get(name, "0")) <= limit
        for x, y in re.findall(r"([\d.-]+),([\d.-]+)", element.get("points", "") + element.get("transform", "")):
            assert (0 <= float(x) <= width, 0 <= float(y) <= height) == (True, True)


def test_many_points_are_thinned_out_and_not_marked() -> None:
    points = tuple(Point(x, x) for x in range(10_000))
    root = svg(XYChart("T", Axis("x"), Axis("y"), (Line("a", points),)))
    (line,) = root.iter("polyline")
    assert MOST_POINTS / 2 < len(line.attrib["points"].split()) <= MOST_POINTS + 1
    assert list(root.iter("path")) == []


def test_an_interval_chart_names_every_bar_with_its_numbers_and_marks_the_limit() -> None:
    bars = (Bar("short", 0.8, 0.7, 0.9, (0.75, 0.85), 1.2), Bar("a very long name " * 5, 1, 0.9, 1.1))
    root = svg(IntervalChart("Ratios", Axis("ratio"), bars))
    assert texts(root)[-4::2] == ["short", "a very long name a very long name a…"]
    assert texts(root)[-3::2] == ["0.8 [0.7, 0.9]", "1 [0.9, 1.1]"]
    assert len(list(root.iter("circle"))) == 2
    assert len([line for line in root.iter("line") if line.get("class") == "limit"]) == 1


def test_colours_come_from_the_page() -> None:
    drawn = draw(XYChart("T", Axis("x"), Axis("y"), tuple(Line(str(n), (Point(n, n),)) for n in range(7))))
    assert not re.search(r"#[0-9a-f]{3}|rgb|(fill|stroke)=", drawn)
    assert re.findall(r'class="mark (s\d)"', drawn) == ["s0", "s1", "s2", "s3", "s4", "s0", "s1"]


def test_a_figure_has_a_legend_only_where_there_is_something_to_tell_apart() -> None:
    one, two = (Line(name, (Point(1, 1),)) for name in ("one", "two"))
    assert figure_of(XYChart("T", Axis("x"), Axis("y"), (one,))).legend == ()
    assert [key.text for key in figure_of(XYChart("T", Axis("x"), Axis("y"), (one, two))).legend] == ["one", "two"]
    limited = IntervalChart("T", Axis("x"), (Bar("a", 1, 1, 1, limit=1.2), Bar("b", 1, 1, 1, limit=1.2)))
    assert [key.text for key in figure_of(limited).legend] == ["limit: 1.2"]
    assert figure_of(XYChart("T", Axis("x"), Axis("y"), (one,), dropped=1)).note == (
        "1 value is not a finite number and not drawn."
    )


def test_samples_of_one_figure_and_unit_share_a_chart() -> None:
    def samples(figure: str, name: str, unit: str = "") -> Samples:
        return Samples(
            figure=figure,
            name=name,
            unit=unit,
            values=(1.0, 2.0),
            estimate=Estimate(1.5, 1, 2),
            confidence=0.95,
            seed=0,
            limit=1.2,
        )

    execution = example_execution(samples=(samples("A", "x"), samples("B", "y", "s"), samples("A", "z")))
    first, second = charts_of(execution)
    assert isinstance(first, IntervalChart)
    assert isinstance(second, IntervalChart)
    assert [bar.name for bar in first.bars] == ["x", "z"]
    assert (second.title, str(second.axis)) == ("B", "median and interval (s)")
    assert first.bars[0] == Bar("x", 1.5, 1, 2, (1.0, 2.0), 1.2)


def test_series_of_one_figure_share_their_axes() -> None:
    def series(figure: str, name: str) -> Series:
        return Series(figure=figure, name=name, x_label="x", y_label="y", y_unit="s", points=(Point(1, 2),))

    charts = charts_of(example_execution(series=(series("A", "one"), series("A", "two"), series("B", "three"))))
    assert [[line.name for line in chart.lines] for chart in charts if isinstance(chart, XYChart)] == [
        ["one", "two"],
        ["three"],
    ]


def test_criteria_with_an_interval_are_drawn_where_there_are_no_samples() -> None:
    criterion = judge(must("C1", "Ratio", at_most(1.2)), Measurement("C1", 0.8, "", 0.7, 0.9))
    (chart,) = charts_of(example_execution(criteria=(criterion,), rows=()))
    assert isinstance(chart, IntervalChart)
    assert chart.bars == (Bar("C1: Ratio", 0.8, 0.7, 0.9, limit=1.2),)


def test_divergences_are_drawn_by_kind_and_only_if_there_are_any() -> None:
    def compared(*comparison: Any) -> ComparedSequence:
        return ComparedSequence(lane="token", label="x", comparison=TokenComparison(*comparison))

    rows = tuple(DataRow(run, {"Divergence": run}) for run in range(3))
    equal, tie, mismatch = compared(24), compared(9, 8, 1, 2, 1e-5, True), compared(4, 3, 1, 2, 0.5, False)
    assert charts_of(example_execution(comparisons=(equal, equal), rows=())) == ()
    (chart,) = charts_of(example_execution(comparisons=(equal, tie, mismatch), rows=rows))
    assert isinstance(chart, XYChart)
    assert [(line.name, [(point.x, point.y) for point in line.points]) for line in chart.lines] == [
        ("equal to the end", [(1, 24)]),
        ("tie", [(2, 8)]),
        ("mismatch", [(3, 3)]),
    ]


def table_charts(*rows: dict[str, Any]) -> list[XYChart]:
    charts = charts_of(example_execution(rows=tuple(DataRow(run, cells) for run, cells in enumerate(rows, start=1))))
    return [chart for chart in charts if isinstance(chart, XYChart)]


def test_columns_of_one_unit_are_drawn_over_the_size_where_nothing_was_named_to_plot() -> None:
    (chart,) = table_charts(
        {"Tokens": 256, "cold (s)": 0.3, "hot (s)": 0.04, "Text": "a"},
        {"Tokens": 1024, "cold (s)": 1.4, "hot (s)": 0.05, "Text": "b"},
    )
    assert (chart.title, str(chart.x), str(chart.y)) == ("cold, hot over tokens", "Tokens", "time (s)")
    assert chart.lines[0] == Line("cold", (Point(256, 0.3), Point(1024, 1.4)))


def test_memory_and_what_has_no_size_are_drawn_over_the_run() -> None:
    charts = table_charts(*({"New tokens": 32, "Ratio": 0.8 + run, "Resident (MiB)": 700} for run in range(3)))
    assert [(chart.title, str(chart.y)) for chart in charts] == [
        ("Ratio over run", "Ratio"),
        ("Resident over run", "Resident (MiB)"),
    ]
    assert table_charts({"Ratio": 1.0}, {"Ratio": 2.0}) == []


def test_memory_noted_without_the_experiments_doing_does_not_replace_its_columns() -> None:
    memory = Series(figure="Memory over time", name="process", x_label="time", y_label="memory", points=(Point(1, 2),))
    rows = tuple(DataRow(run, {"Ratio": 1.0, "Memory (MB)": 5}) for run in range(3))
    assert [chart.title for chart in charts_of(example_execution(series=(memory,), rows=rows))] == [
        "Ratio over run",
        "Memory over time",
    ]


def test_columns_with_text_are_not_drawn_and_nan_read_back_from_a_file_is_no_text() -> None:
    charts = table_charts(*({"Time (s)": value, "Rest (s)": "n/a"} for value in (1.0, "nan", 2.0, None, 3.0)))
    assert [(line.name, len(line.points)) for chart in charts for line in chart.lines] == [("Time", 3)]
    assert charts[0].dropped == 1


def test_an_execution_without_numbers_has_no_charts() -> None:
    assert charts_of(example_execution(rows=())) == ()
