"""A declaration that makes no sense is refused, naming what is wrong."""

from typing import Any

import pytest

from semantic.adapters.fakes.experiments import example_experiment
from semantic.domain.errors import ExperimentDeclarationError, UnknownExperimentOptionError
from semantic.domain.experiments import (
    CriticalTrigger,
    Experiment,
    FailurePlan,
    Hypothesis,
    Method,
    Profile,
    at_most,
    exactly,
    must,
    nice,
)


def test_the_example_is_valid_and_names_its_files() -> None:
    assert example_experiment().file_stem == "exp_900"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"id": "EXP-1"}, "must look like EXP-001"),
        ({"title": ""}, "EXP-900: title is empty"),
        ({"hypotheses": ()}, "hypotheses is empty"),
        ({"title": 5}, "EXP-900: title is no text: 5"),
        ({"criteria": ["C1"]}, r"criteria is no tuple of Criterion: \['C1'\]"),
        ({"hypotheses": Hypothesis("h", ("C1",))}, "hypotheses is no tuple of Hypothesis"),
        ({"hypotheses": (Hypothesis("h", "C1"),)}, r"the criteria of hypothesis 'h' are no tuple; write \('C1',\)"),
        ({"method": {"seed": 1}}, "method is no Method: {'seed': 1}"),
        ({"method": Method(parameters={"size": None})}, "parameter size is None; it can be a number, a text"),  # type: ignore[dict-item]
        ({"failure_plan": FailurePlan(scenarios=())}, "names no scenario"),
        ({"failure_plan": FailurePlan(critical_trigger=CriticalTrigger("x", 0))}, "needs at least one failure"),
        ({"hypotheses": (Hypothesis("It is good", ()),)}, "'It is good' rests on no criterion"),
        ({"hypotheses": (Hypothesis("It is good", ("C9",)),)}, "'C9', which is no criterion; there are C1, N1"),
        ({"criteria": (must("C1", "a", exactly(0)), nice("C1", "b", at_most(1)))}, "criteria has 'C1' twice"),
        ({"profiles": (Profile("quick", ""), Profile("quick", ""))}, "profiles has 'quick' twice"),
        ({"criteria": (nice("C1", "a", exactly(0)), nice("N1", "b", exactly(0)))}, "no must-pass criterion"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ExperimentDeclarationError, match=complaint):
        example_experiment(**changes)


def test_parameters_are_the_method_s_then_the_profile_s_then_the_caller_s() -> None:
    experiment = example_experiment()
    assert experiment.parameters("full") == {"seed": 42, "size": 1}
    assert experiment.parameters("quick") == {"seed": 42, "size": 2}
    assert experiment.parameters("quick", {"size": 3}) == {"seed": 42, "size": 3}


def test_an_unknown_profile_or_parameter_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownExperimentOptionError, match="no profile 'slow'; there are quick, full"):
        example_experiment().parameters("slow")
    with pytest.raises(UnknownExperimentOptionError, match="no parameter 'sizes'; there are seed, size"):
        example_experiment().parameters("quick", {"sizes": 3})


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        (42, "7", 7),
        (0.5, "7", 7.0),
        ("2GB", "400MB", "400MB"),
        (True, "off", False),
        (False, "true", True),
        ((1, 2), "64,256", (64, 256)),
        ((1.5,), "2", (2.0,)),
        (("a",), "short, long", ("short", "long")),
    ],
)
def test_a_parameter_on_a_command_line_has_the_type_of_the_declared_one(declared: Any, text: str, value: Any) -> None:
    experiment = example_experiment(method=Method(parameters={"x": declared}), profiles=(Profile("quick"),))
    parsed = experiment.parse_parameter("x", text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(("declared", "text"), [(42, "many"), (True, "maybe"), ((1, 2), "1,x"), (0.5, "")])
def test_a_value_of_another_type_is_refused_with_the_declared_one(declared: Any, text: str) -> None:
    experiment = example_experiment(method=Method(parameters={"x": declared}), profiles=(Profile("quick"),))
    with pytest.raises(UnknownExperimentOptionError, match="EXP-900: parameter x is like"):
        experiment.parse_parameter("x", text)


def test_title_objective_hypotheses_and_criteria_are_enough() -> None:
    experiment = Experiment(
        id="EXP-100",
        title="Short",
        objective="Show what is enough.",
        hypotheses=(Hypothesis("It is", ("C1",)),),
        criteria=(must("C1", "Missing parts", exactly(0)),),
    )
    assert [profile.name for profile in experiment.profiles] == ["quick", "full"]
    assert experiment.failure_plan.critical_trigger.consecutive_failures == 3
    assert (experiment.owner, experiment.sprint) == ("not stated", "not stated")
