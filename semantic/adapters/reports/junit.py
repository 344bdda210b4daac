"""Executions as JUnit XML, so that a CI shows each criterion as a test."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as xml

from semantic.adapters.atomic import write_atomically
from semantic.application.run_experiment import Outcome
from semantic.domain.errors import ResultsNotWritableError
from semantic.domain.experiments import CriterionResult, Decision, Execution, Level


def write_junit(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Replace the file: one suite for each experiment, one case for each criterion and one for the decision.

    Raises :class:`ResultsNotWritableError`.
    """
    root = xml.Element("testsuites", name="semantic experiments")
    for outcome in outcomes:
        root.append(_suite(outcome))
    xml.indent(root)
    try:
        write_atomically(path, xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n")
    except OSError as error:
        raise ResultsNotWritableError(
            f"{path} cannot be written ({error.strerror or error}); name another file"
        ) from error


def _suite(outcome: Outcome) -> xml.Element:
    name = f"{outcome.experiment_id} {outcome.variant}".strip()
    execution = outcome.execution
    if execution is None:
        cases = [_case(name, "begins", "error", str(outcome.error), type(outcome.error).__name__)]
        return _with_counts(xml.Element("testsuite", name=name), cases)
    suite = xml.Element(
        "testsuite",
        name=name,
        time=f"{execution.total_s:.3f}",
        timestamp=f"{execution.started_at:%Y-%m-%dT%H:%M:%S}",
    )
    properties = xml.SubElement(suite, "properties")
    facts = {"profile": execution.profile, "model": execution.model, "commit": execution.environment.commit}
    for key, value in facts.items():
        xml.SubElement(properties, "property", name=key, value=value)
    cases = [*(_criterion(name, result) for result in execution.criteria), _decision(name, execution)]
    return _with_counts(suite, cases)


def _criterion(suite: str, result: CriterionResult) -> xml.Element:
    """A nice-to-have that was missed is skipped: it decides nothing."""
    kind = "" if result.passed else "failure" if result.level is Level.MUST else "skipped"
    return _case(suite, f"{result.criterion_id} {result.statement}", kind, f"{result.outcome}. {result.evidence}")


def _decision(suite: str, execution: Execution) -> xml.Element:
    kind = "" if execution.decision is Decision.GO else "failure"
    return _case(suite, f"decision {execution.decision}", kind, execution.rationale)


def _case(suite: str, name: str, kind: str, message: str, type: str = "") -> xml.Element:
    case = xml.Element("testcase", classname=suite, name=name)
    if kind:
        found = xml.SubElement(case, kind, message=_printable(message))
        if type:
            found.set("type", type)
    return case


def _with_counts(suite: xml.Element, cases: Sequence[xml.Element]) -> xml.Element:
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    for count, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(kind) is not None for case in cases)))
    return suite


def _printable(text: str) -> str:
    """XML can't hold control characters, not even escaped."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)
