"""A child process: what it answers, and what is heard of its end."""

from pathlib import Path

import pytest

from semantic.adapters.json_child import JsonChild
from semantic.domain.errors import ChildEndedError

MODULE = """
import json, os, sys
from semantic.adapters.json_worker import answers_on_stdout, serve, tell

def do(value):
    print("noise")
    if value == "die":
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)
    if value == "many":
        for number in range(3):
            tell(answers, number)
    return value[::-1]

answers = answers_on_stdout()
serve(do, sys.stdin, answers)
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JsonChild:
    (tmp_path / "talkative.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return JsonChild("talkative")


def test_it_answers_and_refuses_and_goes_on(child: JsonChild) -> None:
    assert child.ask(value="abc") == "cba"
    with pytest.raises(ChildEndedError, match="talkative refused: TypeError"):
        child.ask(value=None)
    assert child.ask(value="abc") == "cba"
    child.close()
    child.close()
    with pytest.raises(ChildEndedError, match="was ended"):
        child.ask(value="abc")


def test_its_death_is_an_error_with_its_last_words(child: JsonChild) -> None:
    with pytest.raises(ChildEndedError, match=r"(?s)exit code 3.*last words"):
        child.ask(value="die")
    child.close()


def test_a_kill_returns_what_it_had_still_said(child: JsonChild) -> None:
    child.send(value="many")
    assert child.hear() == 0
    child.send(value="die")
    assert set(child.kill()) <= {1, 2, "ynam"}
    with pytest.raises(ChildEndedError, match="was ended"):
        child.send(value="abc")
