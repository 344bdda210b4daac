"""What of the drawn tokens may be shown, and when. One token is one byte here."""

from hypothesis import given
from hypothesis import strategies as st

from semantic.adapters.fakes import FakeTokenizer
from semantic.application.text_assembly import TextAssembler


def assembler(*stop: str) -> TextAssembler:
    return TextAssembler(FakeTokenizer().detokenizer(), stop)


def feed(text: TextAssembler, drawn: str) -> list[str]:
    """The pieces that came out, token by token, until a stop string was complete."""
    pieces = []
    for token in FakeTokenizer().encode(drawn):
        pieces.append(text.add(token))
        if text.stopped:
            break
    return pieces


def test_without_stop_strings_every_character_is_shown_at_once() -> None:
    text = assembler()
    assert feed(text, "abc") == ["a", "b", "c"]
    assert text.finish() == ""
    assert text.text == "abc"


def test_a_character_of_several_tokens_is_shown_when_its_last_one_is_there() -> None:
    assert feed(assembler(), "é日🦜") == ["", "é", "", "", "日", "", "", "", "🦜"]


def test_a_character_that_stays_incomplete_becomes_a_replacement_character_at_the_end() -> None:
    text = assembler()
    assert [text.add(token) for token in FakeTokenizer().encode("日")[:2]] == ["", ""]
    assert text.finish() == "�"
    assert text.text == "�"


def test_a_stop_string_over_several_tokens_is_found_and_not_shown() -> None:
    text = assembler("END")
    assert feed(text, "abENDxyz") == ["a", "b", "", "", ""]
    assert text.stopped
    assert text.finish() == ""
    assert text.text == "ab"


def test_what_may_begin_a_stop_string_is_held_back_until_it_does_not() -> None:
    text = assembler("END")
    assert feed(text, "aENxE") == ["a", "", "", "ENx", ""]
    assert not text.stopped
    assert text.finish() == "E"
    assert text.text == "aENxE"


def test_a_stop_string_may_begin_inside_what_looked_like_another_beginning_of_it() -> None:
    text = assembler("aab")
    assert feed(text, "aaab") == ["", "", "a", ""]
    assert text.stopped
    assert text.text == "a"


def test_the_first_of_several_stop_strings_to_be_complete_ends_the_text() -> None:
    text = assembler("longer stop", "st")
    feed(text, "a longer stop")
    assert text.stopped
    assert text.text == "a longer "


def test_of_two_stop_strings_in_one_token_the_earlier_one_counts() -> None:
    class Words:
        def add(self, token_id: int) -> str:
            return "one two three"

        def finish(self) -> str:
            return ""

    text = TextAssembler(Words(), ("three", "two"))
    assert text.add(1) == "one "
    assert text.text == "one "


def test_a_stop_string_of_several_bytes_is_found() -> None:
    text = assembler("日本")
    feed(text, "ab日日本c")
    assert text.stopped
    assert text.text == "ab日"


def test_a_stop_string_that_only_the_last_flush_completes_is_not_shown() -> None:
    text = assembler("x�")
    for token in [*FakeTokenizer().encode("wx"), *FakeTokenizer().encode("日")[:1]]:
        text.add(token)
    assert not text.stopped
    assert text.finish() == ""
    assert text.stopped
    assert text.text == "w"


def test_without_a_detokenizer_there_is_no_text() -> None:
    text = TextAssembler(None, ())
    assert text.add(5) == ""
    assert text.finish() == ""
    assert text.text == ""


@given(drawn=st.text("ab日", max_size=30), stop=st.lists(st.text("ab日", min_size=1, max_size=4), max_size=3))
def test_the_pieces_joined_are_the_text_before_the_stop_string_that_was_complete_first(
    drawn: str, stop: list[str]
) -> None:
    text = assembler(*stop)
    pieces = [*feed(text, drawn), text.finish()]
    ends = sorted((drawn.find(word) + len(word), drawn.find(word)) for word in stop if word in drawn)
    expected = drawn[: min(begin for end, begin in ends if end == ends[0][0])] if ends else drawn
    assert "".join(pieces) == text.text == expected
    assert text.stopped == bool(ends)
