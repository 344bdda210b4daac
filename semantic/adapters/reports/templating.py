"""What templates have in common, whatever they write."""

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from semantic.adapters.reports import formats
from semantic.adapters.reports.templates import FOLDER


def make_environment(*, autoescape: bool) -> Environment:
    """Templates with the filters that say the same in every format; a name that is missing raises."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        status=formats.STATUS.__getitem__,
        verdict=formats.VERDICT.__getitem__,
        decision_mark=formats.DECISION_MARK.__getitem__,
        decision_means=formats.DECISION_MEANS.__getitem__,
        mark=formats.mark,
        seconds=formats.seconds,
        measured=formats.measured,
        day=formats.day,
        minute=formats.minute,
        moment=formats.moment,
        log_text=formats.log_text,
    )
    return environment
