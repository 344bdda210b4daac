"""Two executions side by side: noise is told from change where intervals allow it."""

import pytest
from attrs import evolve

from semantic.adapters.fakes.experiments import example_execution
from semantic.domain.experiments import (
    Change,
    ComparedFact,
    Decision,
    Estimate,
    MeasuredValue,
    Samples,
    Side,
    compare_executions,
    summarise,
)


def side(value: MeasuredValue | None, **changes: object) -> Side:
    summary = summarise(example_execution(**changes))  # type: ignore[arg-type]
    return Side(label="x", summary=evolve(summary, measured={} if value is None else {"C1": value}))


def measured(value: float | None, low: float | None = None, high: float | None = None, passed: bool = True) -> object:
    return MeasuredValue(value=value, low=low, high=high, passed=passed)


@pytest.mark.parametrize(
    ("first", "second", "change"),
    [
        (measured(1.0), measured(1.0), Change.SAME),
        (measured(1.0), measured(2.0), Change.DIFFERS),
        (measured(1.0, 0.9, 1.1), measured(1.2), Change.DIFFERS),
        (measured(1.0, 0.9, 1.1), measured(1.05, 1.0, 1.2), Change.NOISE),
        (measured(1.0, 0.9, 1.1), measured(1.3, 1.2, 1.4), Change.SIGNIFICANT),
        (measured(1.3, 1.2, 1.4), measured(1.0, 0.9, 1.1), Change.SIGNIFICANT),
        (measured(1.0, 0.9, 1.1), measured(1.05, 1.0, 1.2, passed=False), Change.VERDICT),
        (measured(1.0), measured(None), Change.MISSING),
        (measured(None), measured(None), Change.SAME),
        (measured(1.0), None, Change.MISSING),
    ],
)
def test_a_change_is_significant_only_where_the_intervals_lie_apart(
    first: MeasuredValue, second: MeasuredValue, change: Change
) -> None:
    (value,) = compare_executions(side(first), side(second)).values
    assert value.change is change


def test_only_facts_that_differ_are_told_versions_models_and_parameters_among_them() -> None:
    environment = example_execution().environment
    first = side(MeasuredValue(value=1.0))
    second = side(
        MeasuredValue(value=1.0),
        model="other",
        parameters={"seed": 42, "prompts": ("short",)},
        environment=evolve(environment, versions={**environment.versions, "mlx": "0.33.0"}, dirty=True),
        decision=Decision.NO_GO,
    )
    compared = compare_executions(first, second)
    assert compared.facts == (
        ComparedFact("decision", "GO", "NO-GO"),
        ComparedFact("model", "smollm2-135m", "other"),
        ComparedFact("commit", "0123456789ab", "0123456789ab with changes"),
        ComparedFact("mlx", "0.32.4", "0.33.0"),
        ComparedFact("parameter prompts", "short,long", "short"),
    )
    assert not compared.are_verdicts_same


def test_samples_that_both_have_are_compared_and_the_ratio_is_second_over_first() -> None:
    def with_samples(median: float, low: float, high: float, name: str = "short") -> Side:
        taken = Samples(
            figure="Times", name=name, unit="s", values=(), estimate=Estimate(median, low, high), confidence=0.9, seed=1
        )
        return evolve(side(None), samples=(taken,))

    (value,) = compare_executions(with_samples(1.0, 0.9, 1.1), with_samples(2.0, 1.9, 2.1)).values
    assert (value.name, value.ratio, value.change) == ("Times: short", 2.0, Change.SIGNIFICANT)
    assert compare_executions(with_samples(1.0, 0.9, 1.1), with_samples(1.0, 0.9, 1.1, "long")).values == ()
