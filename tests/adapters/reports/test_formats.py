"""How values read."""

from semantic.adapters.fakes.experiments import example_execution
from semantic.adapters.reports.formats import log_text, measured, seconds, visible
from semantic.domain.experiments import Measurement, at_most, judge, must


def test_durations_read_naturally() -> None:
    assert [seconds(value) for value in (0.012, 12.34, 245.0)] == ["0.01 s", "12.3 s", "4 min 5 s"]


def test_a_measured_value_has_six_digits_and_its_interval() -> None:
    criterion = must("C1", "Ratio", at_most(1.2))
    taken = [
        Measurement("C1", 0.77540611, "", 0.6825046, 0.8295584),
        Measurement("C1", 0.0, ""),
        Measurement("C1", float("nan"), ""),
        None,
    ]
    assert [measured(judge(criterion, each)) for each in taken] == [
        "0.775406 [0.6825, 0.8296]",
        "0",
        "nan",
        "nothing",
    ]


def test_control_characters_show_instead_of_acting() -> None:
    assert visible("a\x1b[2J\r\nb\x00\u202ec\td") == "a�[2J\nb��c\td"


def test_a_log_has_its_traceback_and_says_when_there_is_none() -> None:
    first, second = example_execution().runs
    assert (log_text(first), log_text(second)) == ("said ```hello```", "Trace\nx")
