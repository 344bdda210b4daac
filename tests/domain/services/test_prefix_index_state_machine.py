"""`PrefixIndex` beside a model too simple to be wrong: a dictionary of contexts, searched from end to end."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from semantic.domain.entities.kv_block import KVBlock
from semantic.domain.identifiers import BlockHash, BlockId
from semantic.domain.services import Match, PrefixIndex
from semantic.domain.value_objects import Reuse, block_hash, pack_tokens, unpack_tokens

BLOCK_TOKENS = 3
ROOT = BlockHash(b"r" * 32)
CONTEXTS = st.lists(st.integers(0, 1), min_size=1, max_size=8).map(tuple)
PROMPTS = st.lists(st.integers(0, 1), max_size=10).map(tuple)
PICKS = st.integers(0, 30)

Context = tuple[int, ...]


class Entry:
    """Where a context's last block is, and whether it has state there."""

    def __init__(self, place: BlockId | None, is_stored: bool, has_state: bool) -> None:
        self.place, self.is_stored, self.has_state = place, is_stored, has_state

    @property
    def is_gone(self) -> bool:
        return self.place is None and not self.is_stored


class NaiveIndex:
    """Blocks by all tokens up to their end. A block is reached if all whole ones before it are there."""

    def __init__(self, chunk_tokens: int) -> None:
        self.chunk_tokens = chunk_tokens
        self.entries: dict[Context, Entry] = {}

    def add(self, context: Context, new: Entry) -> None:
        present = self.entries.setdefault(context, new)
        if new.has_state and not present.has_state:
            self.entries[context] = new
        elif new.has_state == present.has_state:
            present.is_stored |= new.is_stored
            present.place = present.place or new.place

    def forget_the_gone(self) -> None:
        self.entries = {context: entry for context, entry in self.entries.items() if not entry.is_gone}

    def start(self, context: Context) -> int:
        return (len(context) - 1) // BLOCK_TOKENS * BLOCK_TOKENS

    def is_reached(self, context: Context) -> bool:
        return all(context[:end] in self.entries for end in range(BLOCK_TOKENS, self.start(context) + 1, BLOCK_TOKENS))

    def usable(self, reuse: Reuse, prompt: Context, limit: int) -> int:
        """How many tokens of the prompt may be taken from the cache."""
        most = 0
        for context, entry in self.entries.items():
            common = next((i for i in range(len(context)) if context[: i + 1] != prompt[: i + 1]), len(context))
            common = min(common, limit)
            if not self.is_reached(context) or common <= self.start(context):
                continue
            match reuse:
                case Reuse.ANYWHERE:
                    most = max(most, common)
                case Reuse.AT_STATES:
                    most = max(most, common if entry.has_state and common == len(context) else 0)
                case Reuse.AT_CHUNKS:
                    most = max(most, common - common % self.chunk_tokens)
        return most


class PrefixIndexMachine(RuleBasedStateMachine):
    """The same blocks in the same places, and the same number of tokens for whatever prompt."""

    @initialize(chunk_tokens=st.integers(1, 7))
    def open(self, chunk_tokens: int) -> None:
        self.index, self.model = PrefixIndex(BLOCK_TOKENS, chunk_tokens=chunk_tokens), NaiveIndex(chunk_tokens)
        self.num_places = 0
        self.taken_out: list[KVBlock] = []

    # -- what happens to blocks --------------------------------------------------------------------

    @rule(context=CONTEXTS, has_state=st.booleans(), is_stored=st.booleans())
    def seal(self, context: Context, has_state: bool, is_stored: bool) -> None:
        """A sequence computed it: it comes in new memory."""
        self.add(context, self.new_place(), is_stored, has_state)

    @rule(context=CONTEXTS, has_state=st.booleans())
    def seal_all(self, context: Context, has_state: bool) -> None:
        """Every block of a context: deep ones are rare otherwise."""
        for end in [*range(BLOCK_TOKENS, len(context), BLOCK_TOKENS), len(context)]:
            self.add(context[:end], self.new_place(), False, has_state)

    @rule(context=CONTEXTS, has_state=st.booleans())
    def list_from_store(self, context: Context, has_state: bool) -> None:
        self.add(context, None, True, has_state)

    @rule(pick=PICKS, tokens=CONTEXTS, has_state=st.booleans())
    def seal_another_version(self, pick: int, tokens: Context, has_state: bool) -> None:
        """Of something resident: shorter, or longer where it is the longest one in its memory."""
        resident = [context for context, entry in self.model.entries.items() if entry.place]
        if not resident:
            return
        context = resident[pick % len(resident)]
        place, start = self.model.entries[context].place, self.model.start(context)
        longest = max((other for other in resident if self.model.entries[other].place == place), key=len)
        whole = (longest + tokens)[: start + BLOCK_TOKENS]
        self.add(whole[: start + 1 + pick % (len(whole) - start)], place, False, has_state)

    @rule(pick=PICKS)
    def load(self, pick: int) -> None:
        if (context := self.pick(pick)) and not self.model.entries[context].place:
            place = self.new_place()
            self.model.entries[context].place = place
            self.index.make_resident(self.block(context), place)

    @rule(pick=PICKS)
    def save(self, pick: int) -> None:
        if context := self.pick(pick):
            self.model.entries[context].is_stored = self.block(context).stored = True

    @rule(pick=PICKS)
    def move(self, pick: int) -> None:
        if context := self.pick(pick):
            place = self.new_place()
            self.model.entries[context].place = place
            self.index.make_resident(self.block(context), place)

    @rule(pick=PICKS)
    def detach(self, pick: int) -> None:
        """Of something that is stored as well, so that it stays."""
        if (context := self.pick(pick)) and (entry := self.model.entries[context]).is_stored:
            place, entry.place = entry.place, None
            is_left = place is not None and all(entry.place != place for entry in self.model.entries.values())
            assert self.index.detach(self.block(context)) is is_left

    @rule(pick=PICKS)
    def evict(self, pick: int) -> None:
        if (context := self.pick(pick)) and (place := self.model.entries[context].place):
            for entry in self.model.entries.values():
                entry.place = None if entry.place == place else entry.place
            self.index.evict(place)
            self.model.forget_the_gone()

    @rule(pick=PICKS)
    def unstore(self, pick: int) -> None:
        if context := self.pick(pick):
            self.model.entries[context].is_stored = False
            self.index.unstore(self.block(context))
            self.model.forget_the_gone()

    @rule(pick=PICKS)
    def remove(self, pick: int) -> None:
        if context := self.pick(pick):
            block = self.block(context)
            place = self.model.entries.pop(context).place
            is_left = place is not None and all(entry.place != place for entry in self.model.entries.values())
            assert self.index.remove(block) is is_left
            self.taken_out.append(block)

    @rule(pick=PICKS)
    def finish_reading_what_was_taken_out(self, pick: int) -> None:
        if self.taken_out:
            block = self.taken_out[pick % len(self.taken_out)]
            self.index.make_resident(block, self.new_place())
            assert not block.is_resident

    # -- what is found -----------------------------------------------------------------------------

    @rule(prompt=PROMPTS)
    def match(self, prompt: Context) -> None:
        for reuse in Reuse:
            self.index.reuse = reuse
            for limit in range(-1, len(prompt) + 2):
                self.check_match(reuse, prompt, limit)

    @rule(pick=PICKS, more=PROMPTS)
    def match_what_continues_a_context(self, pick: int, more: Context) -> None:
        self.match((self.pick(pick) or ()) + more)

    @rule(prompt=PROMPTS)
    def path(self, prompt: Context) -> None:
        expected = [context for context in self.model.entries if context == prompt[: len(context)]]
        expected = sorted(filter(self.model.is_reached, expected), key=len)
        assert [self.context(block) for block in self.index.path(ROOT, pack_tokens(prompt))] == expected

    @rule(pick=PICKS)
    def shorter_versions(self, pick: int) -> None:
        if context := self.pick(pick):
            found = self.index.shorter_versions(self.block(context))
            ends = range(self.model.start(context) + 1, len(context))
            expected = [context[:end] for end in ends if context[:end] in self.model.entries]
            assert [self.context(block) for block in found] == expected

    @rule(pick=PICKS)
    def descendants(self, pick: int) -> None:
        context = self.pick(pick)
        if context and len(context) % BLOCK_TOKENS == 0:
            blocks = self.index.descendants(self.block(context))
            assert [block.start for block in blocks] == sorted(block.start for block in blocks)
            names = self.names()
            expected, pending = set(), [context]
            for parent in pending:
                children = [
                    other
                    for other in self.model.entries
                    if self.model.start(other) == len(parent) and other[: len(parent)] == parent
                ]
                expected |= set(children)
                pending += children
            assert {names[block.hash] for block in blocks} == expected

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "index"):
            return
        names = self.names()
        entries = self.model.entries
        assert len(self.index) == len(entries)
        for block in self.index:
            entry = entries[names[block.hash]]
            assert (block.block_id, block.stored, block.has_state) == (entry.place, entry.is_stored, entry.has_state)
        for number in range(1, self.num_places + 1):
            expected = {context for context, entry in entries.items() if entry.place == number}
            assert {names[block.hash] for block in self.index.residents(BlockId(number))} == expected

    def teardown(self) -> None:
        """What was emptied keeps nothing."""
        if hasattr(self, "index"):
            for block in tuple(self.index):
                self.index.remove(block)
            assert (self.index._blocks, self.index._children, self.index._residents) == ({}, {}, {})

    # -- helpers -----------------------------------------------------------------------------------

    def check_match(self, reuse: Reuse, prompt: Context, limit: int) -> None:
        result = self.index.match(ROOT, pack_tokens(prompt), limit)
        assert result.num_tokens == self.model.usable(reuse, prompt, min(limit, len(prompt)))
        if result == Match():
            return
        assert [block.start for block in result.blocks] == list(range(0, result.num_tokens, BLOCK_TOKENS))
        assert 0 < result.used_of_last <= result.blocks[-1].num_tokens
        names, used = self.names(), prompt[: result.num_tokens]
        for block in result.blocks:
            assert names[block.hash][: len(used)] == used[: block.end]
        last = result.blocks[-1]
        if reuse is Reuse.AT_STATES:
            assert last.has_state
        if reuse is Reuse.ANYWHERE:
            equals = [block for block in self.index if block.start == last.start]
            equals = [block for block in equals if names[block.hash][: len(used)] == used]
            assert (last.is_resident, -last.num_tokens) == max((b.is_resident, -b.num_tokens) for b in equals)

    def add(self, context: Context, place: BlockId | None, is_stored: bool, has_state: bool) -> None:
        self.model.add(context, Entry(place, is_stored, has_state))
        start = self.model.start(context)
        block = KVBlock(
            hash=self.name(context),
            parent=self.name(context[:start]),
            start=start,
            tokens=pack_tokens(context[start:]),
            has_state=has_state,
            block_id=place,
            stored=is_stored,
        )
        assert self.index.add(block).hash == block.hash

    def new_place(self) -> BlockId:
        self.num_places += 1
        return BlockId(self.num_places)

    def pick(self, pick: int) -> Context | None:
        contexts = list(self.model.entries)
        return contexts[pick % len(contexts)] if contexts else None

    def name(self, context: Context) -> BlockHash:
        name = ROOT
        for start in range(0, len(context), BLOCK_TOKENS):
            name = block_hash(name, pack_tokens(context[start : start + BLOCK_TOKENS]))
        return name

    def names(self) -> dict[BlockHash, Context]:
        return {self.name(context): context for context in self.model.entries}

    def block(self, context: Context) -> KVBlock:
        block = self.index.get(self.name(context))
        assert block is not None
        return block

    def context(self, block: KVBlock) -> Context:
        context = self.names()[block.hash]
        assert unpack_tokens(block.tokens) == context[block.start :]
        return context


PrefixIndexMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPrefixIndexAgreesWithANaiveModel = PrefixIndexMachine.TestCase
