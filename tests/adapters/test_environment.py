"""What the report says of the machine."""

import sys
from pathlib import Path

from semantic.adapters.environment import SystemEnvironment


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
