"""What agents refuse."""

from semantic.domain.errors.base import SemanticError


class AgentError(SemanticError):
    """Base of errors about agents. The agent stands where it stood before the call."""


class AgentExistsError(AgentError):
    """An agent of this name is there already. Choose another name, or forget that one first."""


class AgentNotFoundError(AgentError, KeyError):
    """No agent of this name is there: it was never made, or forgotten."""

    def __str__(self) -> str:
        return str(self.args[0])


class AgentKindError(AgentError):
    """An agent of chat messages was asked to continue plain text, or the other way round."""


class AgentBusyError(AgentError):
    """This thread is in the middle of a turn of the same agent. Read its stream to the end, or leave it, first."""


class UnknownPointError(AgentError, LookupError):
    """The agent has no such checkpoint, or its history no such entry. The message lists those there are."""


class AgentOfOtherModelError(AgentError):
    """The agent's memory was made by another model, or under another adapter. Open that one, with that adapter.

    The message names the fingerprints of both, those of adapters behind plus signs.
    """

    def __init__(self, agent: str, theirs: str, ours: str) -> None:
        super().__init__(
            f"agent {agent} was made by the model {theirs}, and this engine runs {ours}; open the agent's own model"
        )
        self.theirs, self.ours = theirs, ours


class AgentFileError(AgentError):
    """The file is damaged, or no agent's memory. Export it again."""
