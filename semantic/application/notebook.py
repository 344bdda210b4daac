"""What an execution has noted so far, in the order in which it was noted."""

from collections.abc import Callable

from attrs import define, evolve, field

from semantic.domain.errors import ExperimentDeclarationError
from semantic.domain.experiments import (
    ComparedSequence,
    DataRow,
    Estimate,
    Execution,
    LaneTally,
    Measurement,
    Observation,
    Point,
    RunLog,
    Samples,
    Series,
)


@define
class Line:
    """A series that grows. ``run`` says which run is open now."""

    head: Series
    run: Callable[[], int]
    points: list[Point] = field(factory=list)

    def add(self, x: float, y: float | Estimate, low: float | None = None, high: float | None = None) -> None:
        """Add a point; an :class:`Estimate` brings its interval."""
        if isinstance(y, Estimate):
            low, high, y = y.low, y.high, y.median
        self.points.append(Point(float(x), float(y), low, high, self.run()))

    def drawn(self) -> Series:
        """The series with its points."""
        return evolve(self.head, points=tuple(self.points))


@define
class Notebook:
    """The lists that become an :class:`Execution`. Whatever is noted in a run carries the run's number."""

    runs: list[RunLog] = field(factory=list)
    rows: list[DataRow] = field(factory=list)
    observations: list[Observation] = field(factory=list)
    caveats: list[str] = field(factory=list)
    measurements: dict[str, Measurement] = field(factory=dict)
    samples: list[Samples] = field(factory=list)
    comparisons: list[ComparedSequence] = field(factory=list)
    lines: dict[tuple[str, str], Line] = field(factory=dict)
    is_run_open: bool = False

    @property
    def current_run(self) -> int:
        """Number of the open run; 0 outside of any."""
        return len(self.runs) + 1 if self.is_run_open else 0

    @property
    def crashed_runs(self) -> int:
        """Runs that an exception ended."""
        return sum(run.crashed for run in self.runs)

    def line(self, head: Series) -> Line:
        """The line of this figure and name. Raises if the figure's axes are others already."""
        for other in self.lines.values():
            if other.head.figure == head.figure and _axes(other.head) != _axes(head):
                raise ExperimentDeclarationError(
                    f"figure {head.figure!r} has the axes {_axes(other.head)}; {head.name!r} asks for {_axes(head)}"
                )
        return self.lines.setdefault((head.figure, head.name), Line(head, lambda: self.current_run))

    def tally(self, lane: str) -> LaneTally:
        """The comparisons of one lane, counted."""
        counted = LaneTally()
        for sequence in self.comparisons:
            if sequence.lane == lane:
                counted.add(sequence.label, sequence.comparison, texts_agree=sequence.texts_agree)
        return counted

    def take_over(self, earlier: Execution, run: RunLog) -> None:
        """Copy a run, and all that was noted in it, from an earlier execution, under the next number."""
        number = len(self.runs) + 1
        self.runs.append(evolve(run, number=number))
        self.caveats += run.caveats
        self.rows += [evolve(row, run=number) for row in earlier.rows if row.run == run.number]
        self.observations += [evolve(seen, run=number) for seen in earlier.observations if seen.run == run.number]
        self.samples += [evolve(taken, run=number) for taken in earlier.samples if taken.run == run.number]
        self.comparisons += [evolve(one, run=number) for one in earlier.comparisons if one.run == run.number]
        for series in earlier.series:
            points = [evolve(point, run=number) for point in series.points if point.run == run.number]
            if points:
                self.line(evolve(series, points=())).points += points
        for result in earlier.criteria:
            if result.run == run.number and result.measured is not None:
                self.measurements[result.criterion_id] = Measurement(
                    result.criterion_id, result.measured, result.evidence, result.low, result.high, number
                )


def _axes(series: Series) -> tuple[str, str, str, str]:
    return series.x_label, series.x_unit, series.y_label, series.y_unit
