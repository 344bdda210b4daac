"""How values read in a report, whatever its format: plain text, nothing escaped."""

import re
from collections.abc import Mapping
from datetime import datetime

from semantic.domain.experiments import Cell, CriterionResult, Decision, Parameter, RunLog, Status, Verdict

STATUS = {
    Status.PENDING: "⏳ PENDING",
    Status.RUNNING: "🔄 RUNNING",
    Status.PASSED: "✅ PASSED",
    Status.FAILED: "❌ FAILED",
}
VERDICT = {Verdict.PASS: "✅ PASS", Verdict.FAIL: "❌ FAIL", Verdict.PARTIAL: "⚠️ PARTIAL"}
DECISION_MARK = {Decision.GO: "✅", Decision.NO_GO: "❌", Decision.CONDITIONAL_GO: "⚠️"}
DECISION_MEANS = {
    Decision.GO: "Proceed with implementation",
    Decision.NO_GO: "Block implementation until issue resolved",
    Decision.CONDITIONAL_GO: "Proceed with caveats",
}

_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


def mark(passed: bool) -> str:
    """A tick or a cross."""
    return "✅" if passed else "❌"


def seconds(value: float) -> str:
    """``0.01 s``, ``12.3 s``, ``4 min 5 s``."""
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def measured(result: CriterionResult) -> str:
    """``0.775406 [0.683, 0.83]``: six significant digits, and the interval where there is one."""
    if result.measured is None:
        return "nothing"
    interval = "" if result.low is None or result.high is None else f" [{result.low:.4g}, {result.high:.4g}]"
    return f"{result.measured:.6g}{interval}"


def day(moment: datetime) -> str:
    """``2026-11-26``."""
    return f"{moment:%Y-%m-%d}"


def minute(moment: datetime) -> str:
    """``2026-11-26 13:33``."""
    return f"{moment:%Y-%m-%d %H:%M}"


def moment(when: datetime) -> str:
    """``2026-11-26 13:33:12 UTC``: what a sign-off names."""
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def shown(value: Cell, limit: int | None) -> str:
    """A value on one line, cut at ``limit`` characters."""
    if isinstance(value, bool):
        return mark(value)
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return cut(one_line(str(value)), limit)


def one_line(text: str) -> str:
    """Line breaks become spaces."""
    return " ".join(text.split()) if re.search(r"[\n\r]", text) else text


def visible(text: str) -> str:
    """Without control characters, which a model may well have written: a terminal's, and those that turn the direction
    of writing. For a whole page, so that none is forgotten.
    """
    return _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def cut(text: str, limit: int | None) -> str:
    """At most ``limit`` characters, the last one an ellipsis where some are missing."""
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def log_text(run: RunLog) -> str:
    """What a run logged, with its traceback."""
    return "\n".join([*run.lines, *([run.error] if run.error else [])]) or "(nothing logged)"


def assignments(parameters: Mapping[str, Parameter]) -> str:
    """Parameters as the reader would write them."""
    return "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
