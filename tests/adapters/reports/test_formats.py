"""How values read."""

from semantic.adapters.fakes.experiments import example_execution
from semantic.adapters.reports.formats import log_text, number, seconds, visible


def test_durations_read_naturally() -> None:
    assert [seconds(value) for value in (0.012, 12.34, 245.0)] == ["0.01 s", "12.3 s", "4 min 5 s"]


def test_numbers_have_six_digits() -> None:
    assert [number(value) for value in (0.77540611, 0.0, None, float("nan"))] == ["0.775406", "0", "nothing", "nan"]


def test_control_characters_show_instead_of_acting() -> None:
    assert visible("a\x1b[2J\r\nb\x00\u202ec\td") == "a�[2J\nb��c\td"


def test_a_log_has_its_traceback_and_says_when_there_is_none() -> None:
    first, second = example_execution().runs
    assert (log_text(first), log_text(second)) == ("said ```hello```", "Trace\nx")
