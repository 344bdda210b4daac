"""What a reader wants to see plotted: series, repeated measurements with their interval, compared token sequences.

Each carries its names and units, so that it can be drawn without knowing the experiment. Things with the same
``figure`` belong on one pair of axes.
"""

from attrs import frozen

from semantic.domain.experiments.exactness import TokenComparison
from semantic.domain.experiments.statistics import Estimate


@frozen
class Point:
    """One point of a series. ``low`` and ``high`` are the interval of ``y``, where it has one.

    ``run`` is the number of the run in which it was seen, 0 for none.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    run: int = 0


@frozen(kw_only=True)
class Series:
    """One line of a figure, its points in the order in which they were seen.

    - ``figure``: title of the pair of axes it is drawn on; series with one figure share both axes and units.
    - ``name``: what the legend calls it.
    - ``x_label``, ``x_unit``, ``y_label``, ``y_unit``: of the axes; a unit is empty where it is a plain number.
    """

    figure: str
    name: str
    x_label: str
    y_label: str
    x_unit: str = ""
    y_unit: str = ""
    points: tuple[Point, ...] = ()


@frozen(kw_only=True)
class Samples:
    """One quantity measured several times, with its median and bootstrap interval. One bar of a figure.

    - ``figure``: title of the figure; ``name``: label of this bar; ``unit``: of values and estimate.
    - ``values``: every repetition, in the order in which they were taken.
    - ``estimate``: median and interval of ``values``, at ``confidence``, by a bootstrap seeded with ``seed``.
    - ``limit``: a value worth a line across the figure (a threshold, or 1 for ratios); None for no line.
    - ``criterion_id``: the criterion that it decides; empty for none.
    - ``run``: number of the run in which it was estimated, 0 for none.
    """

    figure: str
    name: str
    unit: str
    values: tuple[float, ...]
    estimate: Estimate
    confidence: float
    seed: int
    limit: float | None = None
    criterion_id: str = ""
    run: int = 0


@frozen(kw_only=True)
class ComparedSequence:
    """One generated sequence held against what it should have been.

    - ``lane``: what it is counted under (``bit``, ``token``, or whatever the experiment tells apart).
    - ``label``: which sequence it is; ``comparison``: how far it was compared, and where it diverged.
    - ``texts_agree``: whether the text was the same, too.
    - ``run``: number of the run in which it was compared, 0 for none.
    """

    lane: str
    label: str
    comparison: TokenComparison
    texts_agree: bool = True
    run: int = 0
