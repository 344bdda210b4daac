"""Where an agent stands, and the points that it can go back to."""

import pytest

from semantic.domain.errors import InvalidRequestError, UnknownPointError
from semantic.domain.value_objects import AgentKind, AgentRecord, HistoryEntry
from semantic.domain.value_objects.agent_record import Checkpoint

SYSTEM = HistoryEntry(role="system", content="Be terse.", end=0)
ASKED = HistoryEntry(role="user", content="Hi", end=4)
SAID = HistoryEntry(role="assistant", content="Hello", end=6)
ASKED_AGAIN = HistoryEntry(role="user", content="Bye", end=9)


def record(**given: object) -> AgentRecord:
    facts = {
        "namespace": "default",
        "name": "alice",
        "model": "f" * 64,
        "model_name": "tiny",
        "kind": AgentKind.CHAT,
        "token_ids": tuple(range(10, 19)),
        "history": (SYSTEM, ASKED, SAID, ASKED_AGAIN),
    }
    return AgentRecord(**{**facts, **given})  # type: ignore[arg-type]


def test_the_system_message_is_the_first_entry_of_that_role() -> None:
    assert record().system == "Be terse."
    assert record(history=(ASKED, SYSTEM)).system is None
    assert record(history=()).system is None


# -- points ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "num_tokens", "num_entries"),
    [(0, 0, 0), (1, 0, 1), (2, 4, 2), (3, 6, 3), (4, 9, 4), (-1, 6, 3), (-2, 4, 2), (-4, 0, 0)],
)
def test_a_number_is_a_count_of_entries_and_below_zero_it_counts_from_the_end(
    at: int, num_tokens: int, num_entries: int
) -> None:
    point = record().point(at)
    assert (point.num_tokens, point.num_entries) == (num_tokens, num_entries)


@pytest.mark.parametrize("at", [5, -5, 1000])
def test_a_count_that_the_history_has_not_is_unknown(at: int) -> None:
    with pytest.raises(UnknownPointError, match=f"'alice' has 4 entries of history, not {at}"):
        record().point(at)


def test_a_label_is_a_checkpoint() -> None:
    marked = record().with_checkpoint("here")
    assert marked.checkpoints == (Checkpoint(label="here", num_tokens=9, num_entries=4),)
    assert marked.point("here") == marked.checkpoints[0]


def test_an_unknown_label_is_refused_and_those_there_are_are_named() -> None:
    with pytest.raises(UnknownPointError, match="no checkpoint 'there'; it has none"):
        record().point("there")
    with pytest.raises(UnknownPointError, match="no checkpoint 'there'; it has 'a', 'b'"):
        record().with_checkpoint("a").with_checkpoint("b").point("there")


def test_a_checkpoint_of_the_same_label_moves() -> None:
    moved = record().with_checkpoint("a").cut(2).with_checkpoint("a")
    assert moved.checkpoints == (Checkpoint(label="a", num_tokens=4, num_entries=2),)


def test_a_label_is_a_str() -> None:
    with pytest.raises(InvalidRequestError, match="label is a str, got 5"):
        record().with_checkpoint(5)  # type: ignore[arg-type]


# -- going back --------------------------------------------------------------------------------------


def test_a_record_cut_at_a_point_is_what_it_was_there() -> None:
    cut = record().cut(3)
    assert cut.token_ids == (10, 11, 12, 13, 14, 15)
    assert cut.history == (SYSTEM, ASKED, SAID)
    assert cut.kind is AgentKind.CHAT


def test_cutting_at_the_end_changes_nothing() -> None:
    assert record().cut(4) == record()
    assert record().cut(0).token_ids == ()


def test_checkpoints_behind_the_point_are_gone_and_those_up_to_it_stay() -> None:
    early = record().cut(2).with_checkpoint("early")
    late = early.after_turn([*early.token_ids, 5, 6], [SAID]).with_checkpoint("late")
    assert [one.label for one in late.cut("early").checkpoints] == ["early"]
    assert [one.label for one in late.cut("late").checkpoints] == ["early", "late"]
    with pytest.raises(UnknownPointError):
        late.cut("early").point("late")


# -- after a turn ------------------------------------------------------------------------------------


def test_a_turn_adds_tokens_and_history() -> None:
    grown = record(turns=1).after_turn([*range(10, 19), 7], [SAID])
    assert grown.token_ids == (*range(10, 19), 7)
    assert grown.history == (SYSTEM, ASKED, SAID, ASKED_AGAIN, SAID)
    assert grown.turns == 2


def test_after_a_turn_that_renders_earlier_ones_differently_points_lie_where_the_contexts_part() -> None:
    marked = record().cut(3).with_checkpoint("here")
    grown = marked.after_turn([10, 11, 12, 13, 14, 99, 98, 97], [ASKED_AGAIN])
    assert [entry.end for entry in grown.history] == [0, 4, 5, 9]
    assert grown.cut("here").token_ids == (10, 11, 12, 13, 14)
    assert grown.cut("here").history[-1].content == "Hello"
