"""``semantic experiment show``, ``report``, ``compare``, ``new``, ``validate``: what they print, and exit codes."""

import json
from pathlib import Path

import pytest
from small_experiments import SCRIPT, SIZES, Invoke, write

# -- what is stored ------------------------------------------------------------------------------------


def test_show_prints_the_latest_execution_with_evidence_hypotheses_and_history(invoke: Invoke) -> None:
    invoke("run", "EXP-002")
    invoke("run", "EXP-002", "--set", "size=5")
    printed = invoke("show", "2").output
    assert "EXP-002 An example: NO-GO" in printed
    assert "C1: counted" in printed
    assert "fail    Nothing differs" in printed
    assert "parameter size: 5 (set by the caller) (declared: 2)" in printed
    assert [line.split("  ")[0] for line in printed.splitlines()[-1:]] == ["@1"]
    assert "run 1: only" in invoke("show", "2", "--log").output


def test_show_of_what_never_ran_says_how_to_run_it(invoke: Invoke) -> None:
    result = invoke("show", "EXP-001")
    assert result.exit_code == 1
    assert "semantic experiment run EXP-001" in " ".join(result.output.split())


def test_report_writes_again_from_what_is_stored(invoke: Invoke, folder: Path) -> None:
    invoke("run", "EXP-001")
    report = folder / "data" / "exp_001_report.md"
    report.unlink()
    (folder / "data" / "exp_001_review.toml").write_text('[sign_off]\nreviewer = "R. Viewer"\n')
    result = invoke("report", "EXP-001")
    assert result.exit_code == 0
    assert str(report) in result.output.splitlines()
    assert "R. Viewer" in report.read_text()
    assert invoke("report").exit_code == 0


def test_report_of_all_tells_what_it_could_not_read_and_writes_the_others(invoke: Invoke, folder: Path) -> None:
    invoke("run", "EXP-001", "EXP-002")
    for name in ("exp_001_report.md", "exp_002_report.md"):
        (folder / "data" / name).unlink()
    (folder / "data" / "exp_001_review.toml").write_text("[sign_off]\nreviewer = 5\n")
    result = invoke("report")
    assert result.exit_code == 1
    assert "exp_001_review.toml: " in result.output
    assert not (folder / "data" / "exp_001_report.md").exists()
    assert (folder / "data" / "exp_002_report.md").exists()


def test_compare_tells_what_differs_and_exits_with_1_where_a_verdict_changed(invoke: Invoke, folder: Path) -> None:
    write(folder, "EXP-006", SIZES.format(id="EXP-006"))
    data = str(folder / "data")
    for size in ("4", "4", "5"):
        invoke("run", "EXP-006", "--set", f"size={size}")
    same = invoke("compare", "EXP-006@1", "EXP-006@2", "--data", data)
    assert (same.exit_code, "decision" in same.output) == (0, False)
    result = invoke("compare", "EXP-006@1", f"{data}/exp_006_results.json", "--data", data)
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "decision GO NO-GO" in lines
    assert "parameter size 4 5" in lines
    assert "! C1 0 1 - verdict changed" in lines
    assert "N1 42 42 1.000 same" in lines


def test_compare_of_folders_takes_what_both_have(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    invoke("run", "EXP-001", "EXP-002")
    invoke("run", "EXP-002", "EXP-003", "--data", str(other))
    result = invoke("compare", str(folder / "data"), str(other), "--json")
    assert [one["second"].split(" ")[0] for one in json.loads(result.stdout)] == ["EXP-002"]
    single = invoke("compare", "EXP-002", str(other))
    assert single.exit_code == 0


@pytest.mark.parametrize("name", ["nothing", "EXP-009", "EXP-001@7", "EXP-001@2020-01"])
def test_compare_of_what_is_not_there_is_wrong_usage(invoke: Invoke, folder: Path, name: str) -> None:
    invoke("run", "EXP-001")
    assert invoke("compare", "EXP-001", name, "--data", str(folder / "data")).exit_code == 2


# -- for authors ---------------------------------------------------------------------------------------


def test_new_writes_a_script_with_the_next_free_id_that_runs_as_it_is(invoke: Invoke, folder: Path) -> None:
    result = invoke("new", 'Time to the "first" token', "--experiments", str(folder))
    path = folder / "scripts" / "exp_005_time_to_the_first_token.py"
    assert result.output.splitlines()[0] == str(path)
    ran = invoke("run", "EXP-005", "--json")
    (printed,) = json.loads(ran.stdout)
    assert printed["title"] == 'Time to the "first" token'
    assert printed["decision"] in ("GO", "NO-GO", "CONDITIONAL GO")
    assert printed["stopped_early"] == ""
    assert [one["criterion_id"] for one in printed["criteria"] if one["measured"] is None] == []
    assert invoke("validate").exit_code == 0


def test_new_makes_the_folders_where_there_are_none(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("new", "First", "--experiments", str(tmp_path / "mine"))
    assert result.exit_code == 0
    assert (tmp_path / "mine" / "scripts" / "exp_001_first.py").is_file()
    assert invoke("new", "!!!", "--experiments", str(tmp_path / "mine")).exit_code == 1


def test_validate_is_content_with_what_is_right_and_warns_of_what_did_not_run(invoke: Invoke) -> None:
    result = invoke("validate")
    assert result.exit_code == 0
    assert "has not run yet" in result.output
    assert result.output.splitlines()[-1] == "all experiments are valid"
    assert invoke("validate", "--strict").exit_code == 1


def test_validate_finds_what_is_wrong(invoke: Invoke, folder: Path) -> None:
    invoke("run", "EXP-001", "EXP-002", "EXP-003")
    data, adrs = folder / "data", folder / "adr"
    adrs.mkdir()
    (adrs / "0004-lanes.md").write_text(
        "# ADR 0004\n\nStatus: accepted.\n\nExperiments: [EXP-002](x.md),\n[EXP-077](y.md).\n\n## Context\n\nEXP-003.\n"
    )
    (data / "exp_001_results.json").write_text("{")
    (data / "exp_003_review.toml").write_text("sumary = 1")
    write(folder, "EXP-005", "import nothing_of_this_name\n")
    text = SCRIPT.format(id="EXP-006", value=0, more="").replace("EXPERIMENT = example_experiment(", DECLARED)
    write(folder, "EXP-006", text)
    result = invoke("validate", "--adrs", str(adrs), "--json")
    assert result.exit_code == 1
    found = {(one["experiment_id"], one["text"]) for one in json.loads(result.stdout) if not one["is_warning"]}
    assert ("EXP-002", "is named by ADR-0004, which its related.adrs lacks") in found
    assert ("EXP-006", "names ADR-0009, which is not there") in found
    assert ("EXP-006", "criterion C2 is declared, and nothing in the script measures it") in found
    assert {id for id, _ in found} == {"EXP-001", "EXP-002", "EXP-003", "EXP-005", "EXP-006"}
    where = [one["where"] for one in json.loads(result.stdout) if "criterion C2" in one["text"]]
    assert where[0].endswith("exp_006_x.py:6")


DECLARED = """from semantic.experiments import Hypothesis, Related, exactly, must
EXPERIMENT = example_experiment(
    hypotheses=(Hypothesis("h", ("C1", "C2")),), related=Related(adrs=("ADR-0009",)), criteria=(
    must("C2", "Never", exactly(0)), must("C1", "a", exactly(0))),"""


def test_help_says_what_each_command_does_and_how_it_exits(invoke: Invoke) -> None:
    assert "Exits with 0 only if all are GO" in " ".join(invoke("run", "--help").output.split())
    for command in ("new", "list", "run", "report", "show", "compare", "validate"):
        assert command in invoke("--help").output
