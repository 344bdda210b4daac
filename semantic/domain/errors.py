"""One error hierarchy. Every message says what was asked, what is there, and what to do next."""


class SemanticError(Exception):
    """Base of everything this library raises on purpose. Catch it to catch them all."""


# -- what the caller asked for -------------------------------------------------------------------


class InvalidRequestError(SemanticError, ValueError):
    """The request itself cannot be served. Change the argument the message names and submit again."""


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


class InvalidSpecError(SemanticError, ValueError):
    """A ModelCacheSpec that describes no possible cache. The message names the field and the rule it breaks."""


class InvalidSizeError(SemanticError, ValueError):
    """A size that is not a number of bytes. Write it as 1GB (10^9), 1GiB (2^30), or an integer."""


class InvalidSettingError(SemanticError, ValueError):
    """A setting has an impossible value. The message names it and where it came from: change it there."""


# -- the block pool ------------------------------------------------------------------------------


class PoolError(SemanticError):
    """Base of the block pool's errors. The pool is unchanged whenever one is raised."""


class BlockCountError(PoolError, ValueError):
    """A number of blocks that makes no sense: a negative allocation, a pool of none. Pass a positive one."""


class BudgetTooSmallError(PoolError, ValueError):
    """Not even one block fits the memory budget. Raise the budget, or quantise the KV cache."""

    def __init__(self, budget_bytes: int, bytes_per_block: int, block_tokens: int, workspace_bytes: int = 0) -> None:
        workspace = f" and computing {workspace_bytes:,}" if workspace_bytes else ""
        super().__init__(
            f"a budget of {budget_bytes:,} bytes holds no block: one of {block_tokens} tokens takes "
            f"{bytes_per_block:,}{workspace}, which is {bytes_per_block + workspace_bytes - budget_bytes:,} more; "
            "raise the budget or quantise the KV cache"
        )
        self.budget_bytes, self.bytes_per_block, self.block_tokens = (
            budget_bytes,
            bytes_per_block,
            block_tokens,
        )


class PoolExhaustedError(PoolError):
    """Fewer blocks are free than were requested. Release some, or wait for a sequence to finish."""

    def __init__(self, requested: int, available: int, total: int) -> None:
        super().__init__(f"{requested} blocks were requested, {available} of {total} are available")
        self.requested, self.available, self.total = requested, available, total


class UnknownBlockError(PoolError, KeyError):
    """The block id was never handed out by this pool, or belongs to another pool."""

    def __str__(self) -> str:
        return str(self.args[0])


class BlockNotInUseError(PoolError):
    """The block is not held by anyone: it was released twice, or never allocated."""


class PoolIntegrityError(PoolError):
    """The pool's books do not balance. This is a defect of the library: please report it."""


class EngineIntegrityError(SemanticError):
    """Pool, index, memory and store of an engine do not agree. This is a defect of the library: please report it."""


class PositionNotMappedError(SemanticError, IndexError):
    """The position lies outside the blocks of the sequence's table. Extend the table first."""

    def __init__(self, position: int, capacity_tokens: int) -> None:
        super().__init__(f"position {position} is outside the table's blocks, which hold {capacity_tokens} tokens")
        self.position, self.capacity_tokens = position, capacity_tokens


class MemoryUnavailableError(SemanticError, MemoryError):
    """The system refuses the memory that the budget asks for. Open the engine with less."""

    def __init__(self, requested_bytes: int) -> None:
        super().__init__(
            f"the system refuses {requested_bytes:,} bytes of address space for KV blocks; "
            "open the engine with less memory"
        )
        self.requested_bytes = requested_bytes


class InvalidTransitionError(SemanticError):
    """The sequence's lifecycle does not allow this step from its present state. Nothing was changed."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"a sequence that is {state} cannot {event}")
        self.state, self.event = state, event


# -- the engine ----------------------------------------------------------------------------------


class EngineClosedError(SemanticError):
    """The engine was closed. Open a new one with semantic.open(...)."""


class EngineDrainingError(EngineClosedError):
    """The engine finishes what it has and takes no new request. Send it to another engine, or open a new one."""


class EngineDownError(SemanticError):
    """The engine's owner thread failed and the engine is down. The cause is chained; open a new engine."""


class EngineForkedError(SemanticError):
    """The process was forked after the engine was opened, and its thread did not come along. Open one here."""


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


class EventLoopClosedError(SemanticError):
    """The event loop of a task that waits was closed. Await or cancel requests before the loop is closed."""


class TokenizerRequiredError(InvalidRequestError):
    """The engine was opened without a tokenizer, so it only takes token ids and token-id stops."""


class ChatTemplateError(InvalidRequestError):
    """The tokenizer has no chat template, or the template refused these messages."""


# -- the store -----------------------------------------------------------------------------------


class StoreError(SemanticError):
    """The store's folder cannot be used: the message says what the system refused, and where."""


class StoreIntegrityError(StoreError):
    """The files are not those that the index publishes. Run ``semantic cache verify``, and report it if none was lost
    to the disk or to another program."""


class StoreFullError(StoreError):
    """The disk, or the store's budget, has no room. Free some, or open the engine with another store."""


class StoreLockedError(StoreError):
    """Another process has this store open. Close it there, or give this engine a folder of its own."""

    def __init__(self, path: str, owner: str) -> None:
        super().__init__(f"the store {path} is in use by {owner}; close it there, or open another folder")
        self.path, self.owner = path, owner


class StoreForkedError(StoreError):
    """The process was forked after the store was opened. Open the engine in the process that uses it."""


class StoreTooNewError(StoreError):
    """The store was written by a newer version of this library. Upgrade, or give another folder."""

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(
            f"{path} has store format {found} and this version reads {supported}; "
            "upgrade semantic-kv, or open another folder"
        )
        self.path, self.found, self.supported = path, found, supported


class BlockMissingError(StoreError, KeyError):
    """The store has no such block: it was evicted, erased, or never published. The engine computes it again."""

    def __str__(self) -> str:
        return str(self.args[0])


class BlockDamagedError(StoreError):
    """A stored block is not what was written, or not what this model keeps. The engine computes it again."""


# -- agents --------------------------------------------------------------------------------------


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


# -- models --------------------------------------------------------------------------------------


class ModelError(SemanticError):
    """Base of errors about finding and loading a model."""


class ModelNotFoundError(ModelError):
    """No model goes by this name, and no folder or file lies at this path. The message lists near names."""


class ModelDamagedError(ModelError):
    """The model's files are truncated, altered or not what they claim to be. Fetch them again."""


class UnsupportedArchitectureError(ModelError):
    """The file is readable but its architecture, or a tensor type in it, is not served."""


class AdapterError(ModelError):
    """The adapter is missing, damaged, or made for another model. Name a folder that mlx_lm.lora wrote for this one."""


class DownloadError(ModelError):
    """The model could not be fetched. The message says from where, and how to provide it by hand."""


class BlasNotFoundError(SemanticError):
    """OpenBLAS was asked for and could not be loaded. `semantic doctor` shows what was tried."""


# -- experiments ---------------------------------------------------------------------------------


class ExperimentError(SemanticError):
    """Base of errors about declaring and running experiments."""


class ExperimentNotFoundError(ExperimentError):
    """No experiment has this id. `semantic experiment list` shows those there are."""


class ExperimentDeclarationError(ExperimentError):
    """The experiment's file does not declare a valid experiment. The message names the file and the field."""


class UnknownExperimentOptionError(ExperimentError, ValueError):
    """The experiment declares no such profile or parameter. The message lists those there are."""


class MissingPrerequisiteError(ExperimentError):
    """The experiment names code that is not there. Install it, or correct the declaration's components."""


class NoResultsError(ExperimentError):
    """The experiment has not been run here, so there is nothing to report. Run it: `semantic experiment run ID`."""


class ResultsUnreadableError(ExperimentError):
    """The results file is damaged or not one of ours. Move it away and run the experiment again."""


class ResultsTooNewError(ResultsUnreadableError):
    """The results were written by a newer version of this library. Upgrade, or give another data folder."""

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(
            f"{path} has results of schema version {found} and this version reads up to {supported}; "
            "upgrade semantic-kv, or write to another data folder"
        )
        self.path, self.found, self.supported = path, found, supported


class ResultsNotWritableError(ExperimentError, OSError):
    """The results can't be written there. Make the folder writable, or name another one with --data."""


class ReviewUnreadableError(ExperimentError):
    """The review beside the results is not what a review may hold. The message names the file, line and field."""


class CannotResumeError(ExperimentError):
    """The interrupted execution was another one: other code, machine, model or parameters. Run without --resume."""


class NotComparableError(ExperimentError):
    """What was named to compare is no results file, no folder of them, and no execution. The message lists those."""


class ReferenceRunError(ExperimentError):
    """The reference process (mlx_lm alone) failed. Its last output is in the message."""


class ChildEndedError(ExperimentError):
    """A process that an experiment had started ended, or refused what it was asked. The message has its last output."""
