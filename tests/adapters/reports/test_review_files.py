"""What people write beside the results."""

from pathlib import Path

import pytest

from semantic.adapters.reports.review_files import FolderReviews
from semantic.domain.errors import ReviewUnreadableError
from semantic.domain.experiments import Finding, Observation, Review, RootCause, SignOff

WHOLE = """
summary = "It holds."

[sign_off]
reviewer = "R. Viewer"
approval_date = 2026-11-26
execution = "2026-11-26 13:33"

[[observations]]
kind = "issue"
text = "The fan was loud."

[root_cause]
problem = "p"
investigation = ["looked", "found"]
root_cause = "r"
fix = "f"
"""


def test_a_review_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "exp_001_review.toml").write_text(WHOLE)
    assert FolderReviews(tmp_path).load("EXP-001") == Review(
        summary="It holds.",
        sign_off=SignOff(reviewer="R. Viewer", approval_date="2026-11-26", execution="2026-11-26 13:33"),
        observations=(Observation(Finding.ISSUE, "The fan was loud."),),
        root_cause=RootCause(problem="p", investigation=("looked", "found"), root_cause="r", fix="f"),
    )


def test_where_there_is_none_nothing_is_said(tmp_path: Path) -> None:
    assert FolderReviews(tmp_path).load("EXP-001") == Review()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("summary = ", r"exp_001_review\.toml: Invalid value \(at end of document\)"),
        ("\nsummary 3", r"exp_001_review\.toml: .*line 2"),
        ("sumary = 'x'", r"exp_001_review\.toml: extra fields found \(sumary\)"),
        ("[[observations]]\nkind = 'great'\ntext = 'x'", r"observations\[0\]\.kind"),
        ("summary = 3", r"review\.summary"),
    ],
)
def test_a_mistake_is_a_named_error_that_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "exp_001_review.toml").write_text(text)
    with pytest.raises(ReviewUnreadableError, match=complaint):
        FolderReviews(tmp_path).load("EXP-001")
