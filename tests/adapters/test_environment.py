"""What the report says of the machine."""

import subprocess
import sys
from pathlib import Path

from semantic.adapters.environment import SystemEnvironment
from semantic.domain.errors import ModelNotFoundError


def test_versions_are_those_installed_under_the_names_asked_for(tmp_path: Path) -> None:
    facts = SystemEnvironment(tmp_path).facts(["attrs", "mlx_lm", "no-such-distribution"])
    assert facts.versions["mlx_lm"] == facts.versions["mlx-lm"]
    assert "attrs" in facts.versions
    assert "no-such-distribution" not in facts.versions
    assert facts.python == ".".join(str(part) for part in sys.version_info[:3])


def test_outside_of_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    facts = SystemEnvironment(tmp_path).facts([])
    assert (facts.commit, facts.dirty) == ("", False)


def test_missing_components_are_those_that_cannot_be_imported(tmp_path: Path) -> None:
    wanted = ["semantic.domain.services:BlockPool", "semantic.domain.services:Nothing", "no.such.module:X", "json"]
    assert SystemEnvironment(tmp_path).missing(wanted) == ["semantic.domain.services:Nothing", "no.such.module:X"]


def test_results_recorded_since_the_commit_do_not_make_the_code_dirty(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    experiments = tmp_path / "experiments"
    (experiments / "data").mkdir(parents=True)
    code, results = tmp_path / "code.py", experiments / "data" / "exp_001_results.json"
    code.write_text("1")
    results.write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "both")
    results.write_text("2")
    assert not SystemEnvironment(experiments).facts([]).dirty
    code.write_text("2")
    assert SystemEnvironment(experiments).facts([]).dirty


def test_a_model_that_cannot_be_provided_says_why_and_one_that_can_says_nothing(tmp_path: Path) -> None:
    class Models:
        def provide(self, name: str) -> Path:
            if name == "here":
                return tmp_path
            raise ModelNotFoundError(f"there is no model called {name!r}")

    probe = SystemEnvironment(tmp_path, catalogue=Models())  # type: ignore[arg-type]
    assert probe.model_problem("here") == ""
    assert probe.model_problem("elsewhere") == "there is no model called 'elsewhere'"
