"""What was seen that no criterion asks for: by the runner while it measured, or by the author afterwards."""

from enum import StrEnum

from attrs import frozen


class Finding(StrEnum):
    """The template's three kinds of observation."""

    POSITIVE = "positive"
    ISSUE = "issue"
    ANOMALY = "anomaly"


@frozen
class Observation:
    """Something seen that no criterion asks for, in the run of this number (0: in none)."""

    kind: Finding
    text: str
    run: int = 0
