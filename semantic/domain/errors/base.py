"""What all errors have in common."""


class SemanticError(Exception):
    """Base of everything this library raises on purpose. Catch it to catch them all."""


class InvalidRequestError(SemanticError, ValueError):
    """The request itself cannot be served. Change the argument the message names and submit again."""


class InvalidSpecError(SemanticError, ValueError):
    """A ModelCacheSpec that describes no possible cache. The message names the field and the rule it breaks."""


class InvalidSizeError(SemanticError, ValueError):
    """A size that is not a number of bytes. Write it as 1GB (10^9), 1GiB (2^30), or an integer."""


class InvalidSettingError(SemanticError, ValueError):
    """A setting has an impossible value. The message names it and where it came from: change it there."""
