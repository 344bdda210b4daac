"""``semantic model list | fetch | show``."""

from typing import Any

import attrs

from semantic.adapters.fakes.engine import fake_engine


def test_list_says_what_is_fetched(cli: Any) -> None:
    assert cli("model", "list").out == "name       fetched\nhere       yes\nelsewhere  no\n"
    assert cli("model", "list", "--json").json == [
        {"name": "here", "fetched": True},
        {"name": "elsewhere", "fetched": False},
    ]


def test_fetch_prints_where_the_model_lies(cli: Any, tmp_path: Any) -> None:
    first, second = cli("model", "fetch", "elsewhere"), cli("model", "fetch", "elsewhere")
    assert (first.code, first.out, first.err) == (0, f"{tmp_path}/models/elsewhere\n", "fetching elsewhere ...\n")
    assert (second.code, second.out, second.err) == (0, first.out, "")


def test_fetch_without_a_name_takes_the_model_in_force(cli: Any, tmp_path: Any) -> None:
    assert cli("model", "fetch", "--json").json == {"name": "here", "path": f"{tmp_path}/models/here"}


def test_show_tells_the_facts_and_says_where_there_are_none(cli: Any) -> None:
    facts = cli("model", "show", "--json").json
    assert (facts["architecture"], facts["layers"], facts["vocabulary"]) == ("llama", 30, 49152)
    assert len(bytes.fromhex(facts["fingerprint"])) == 32
    assert f"fingerprint     {facts['fingerprint']}\n" in cli("model", "show").out
    assert "vocabulary      49,152\n" in cli("model", "show").out
    assert "context_length  -\n" in cli("model", "show").out


def test_show_fetches_nothing(cli: Any) -> None:
    outcome = cli("model", "show", "elsewhere")
    assert (outcome.code, outcome.out) == (1, "")
    assert "semantic model fetch elsewhere" in outcome.err


def test_an_unknown_name_is_one_line_with_near_names_and_code_1(cli: Any) -> None:
    outcome = cli("model", "fetch", "elswhere")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "did you mean elsewhere" in outcome.err
    assert "Traceback" not in outcome.err


def test_wrong_usage_is_code_2(cli: Any, monkeypatch: Any) -> None:
    assert cli("model", "nonsense").code == 2
    assert cli("model", "list", "--nonsense").code == 2
    monkeypatch.setenv("SEMANTIC_MAX_NUM_SEQS", "many")
    outcome = cli("model", "list")
    assert outcome.code == 2
    assert "max_num_seqs = 'many' (from SEMANTIC_MAX_NUM_SEQS)" in outcome.err


def test_the_version_is_printed(cli: Any) -> None:
    assert cli("--version").out.startswith("semantic-kv 0.")


def test_show_with_a_probe_says_which_way_the_model_runs_and_why(cli: Any) -> None:
    probing = type(cli)(attrs.evolve(cli.services, open_engine=lambda settings: fake_engine()))
    facts = probing("model", "show", "--probe", "--json").json
    assert (facts["architecture"], facts["batching"], facts["layout"]) == ("llama", "ragged", "paged")
    assert (facts["reuse"], facts["windows"]) == ("anywhere", "-")
    assert facts["caches"].endswith(" full")
    assert "because" in facts
    assert "batching" not in cli("model", "show", "--json").json
