"""What is wrong with a request, or with the time it came at."""

from semantic.domain.errors.base import InvalidRequestError, SemanticError


class EmptyPromptError(InvalidRequestError):
    """The prompt has no tokens. Pass a non-empty string, list of token ids, or list of chat messages."""


class TokenOutOfVocabularyError(InvalidRequestError):
    """A token id lies outside the model's vocabulary. Encode with this model's own tokenizer."""

    def __init__(self, token_id: int, position: int, vocab_size: int) -> None:
        super().__init__(
            f"token id {token_id} at position {position} is outside the vocabulary (0 to {vocab_size - 1}); "
            "encode the prompt with this model's own tokenizer"
        )
        self.token_id, self.position, self.vocab_size = token_id, position, vocab_size


class PromptTooLongError(InvalidRequestError):
    """The prompt leaves no room for one new token in the model's context. Shorten it."""

    def __init__(self, prompt_tokens: int, context_length: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the model's context holds {context_length}, "
            "one of which the reply needs; shorten the prompt"
        )
        self.prompt_tokens, self.context_length = prompt_tokens, context_length


class RequestTooLargeError(InvalidRequestError):
    """The request could not fit the pool even if it ran alone. Lower max_tokens or raise the memory budget."""

    def __init__(self, requested_blocks: int, total_blocks: int, block_tokens: int) -> None:
        super().__init__(
            f"prompt and max_tokens together need {requested_blocks} blocks of {block_tokens} tokens and the "
            f"whole pool has {total_blocks}; shorten the prompt, lower max_tokens, or open the engine with more memory"
        )
        self.requested_blocks, self.total_blocks, self.block_tokens = (
            requested_blocks,
            total_blocks,
            block_tokens,
        )


class LogitsProcessorError(InvalidRequestError):
    """A logits processor raised, or returned no logits. Correct it and submit again; other requests went on."""


class UnsupportedPrecisionError(InvalidRequestError):
    """Keys and values can't be kept in the bits that were asked for: the message says why, and what would work."""


class UnknownRequestError(SemanticError, KeyError):
    """No request with this id is waiting or running: it finished, or was never submitted here."""

    def __str__(self) -> str:
        return str(self.args[0])


class RequestFinishedError(UnknownRequestError):
    """The request of this id is over, so that there is nothing to cancel. What it came to stays as it is."""


class QueueFullError(SemanticError):
    """So many requests wait that one more is refused. Try again later, or open the engine with more max_waiting."""

    def __init__(self, waiting: int, max_waiting: int) -> None:
        super().__init__(
            f"{waiting} requests are waiting and the queue takes {max_waiting}; try again when some have ended, "
            "or open the engine with a larger max_waiting"
        )
        self.waiting, self.max_waiting = waiting, max_waiting


class DeadlineExceededError(SemanticError, TimeoutError):
    """The request's deadline passed before its end. ``completion`` holds what there was by then."""

    def __init__(self, deadline_s: float, completion: object = None) -> None:
        super().__init__(f"the request did not end within {deadline_s:g} s; allow more deadline_s, or ask for less")
        self.deadline_s, self.completion = deadline_s, completion


class TokenizerRequiredError(InvalidRequestError):
    """The engine was opened without a tokenizer, so it only takes token ids and token-id stops."""


class ChatTemplateError(InvalidRequestError):
    """The tokenizer has no chat template, or the template refused these messages."""
