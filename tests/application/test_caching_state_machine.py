"""Engines that share, evict, save, load and lose contexts at random, beside a model that computes all from the start.

The fake model's next token is a function of the tokens before it, so every answer is known beforehand; its memory
notices rows that change, and the invariants notice blocks that are in two places or in none. Drafts are right as often
as is asked for, and nothing may be seen of what was wrong.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from attrs import frozen
from driving import DrivenWithStore, Oracle, cold, driven_with_store
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from semantic.adapters.fakes import FakeModel
from semantic.adapters.fakes.store import MemoryStore
from semantic.application.integrity import check_integrity
from semantic.domain.errors import RequestTooLargeError
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import FinishReason, Priority, Reuse, pack_tokens

POISON = 200
STEMS = ([1, 2] * 30, [1, 2] * 12 + [3] * 40, [1, 2] * 12 + [3] * 9 + [4] * 40)
"""Prompts are cut from these, so that most of them begin alike and part within blocks and between them."""

PICK = st.integers(0, 50)
PROMPTS = st.builds(
    lambda stem, length, rest: [*STEMS[stem][:length], *rest],
    st.integers(0, 2),
    st.integers(1, 45),
    st.lists(st.integers(1, 4), max_size=3),
)


class HalfWritingModel(FakeModel):
    """Poison makes it raise after it has written some of what it was given."""

    def prefill(self, cache: Any, token_ids: Sequence[int]) -> None:
        if POISON in token_ids:
            cache.append(token_ids[: token_ids.index(POISON)])
        super().prefill(cache, token_ids)

    def decode(self, rows: Sequence[Any]) -> Any:
        if any(row.token_id == POISON for row in rows):
            for row in rows[::2]:
                row.cache.append([row.token_id])
        return super().decode(rows)


@frozen
class Asked:
    """What a request was, so that its answer is known."""

    prompt: list[int]
    max_tokens: int
    namespace: str
    owner: object


class CachingMachine(RuleBasedStateMachine):
    """Subclasses say which kind of memory, and where it may be reused."""

    layout: str
    reuse: Reuse

    @initialize(
        blocks=st.integers(3, 12),
        block_tokens=st.sampled_from([4, 8, 16]),
        chunks_of_blocks=st.integers(1, 2),
        max_num_seqs=st.integers(1, 4),
        budget_blocks=st.none() | st.integers(4, 20),
        drafted=st.sampled_from([0, 2, 7]),
        wrong=st.sampled_from([0, 2, 3, 5]),
    )
    def open(
        self,
        blocks: int,
        block_tokens: int,
        chunks_of_blocks: int,
        max_num_seqs: int,
        budget_blocks: int | None,
        drafted: int,
        wrong: int,
    ) -> None:
        self.parts: dict[str, Any] = {"blocks": blocks, "max_num_seqs": max_num_seqs}
        self.parts |= {"prompt_lookup_num_tokens": drafted, "make_drafter": partial(Oracle, wrong=wrong)}
        self.sizes = {"block_tokens": block_tokens, "prefill_step_size": block_tokens * chunks_of_blocks}
        self.store = MemoryStore(None if budget_blocks is None else budget_blocks * block_tokens * 4)
        self.may_lose_blocks = budget_blocks is not None
        self.contexts: list[tuple[list[int], str, object]] = []
        self.start()

    def start(self) -> None:
        self.is_store_complete = True
        model = HalfWritingModel(layout=self.layout, reuse=self.reuse, fail_on=POISON, **self.sizes)
        self.some: DrivenWithStore = driven_with_store(self.store, model, **self.parts)
        self.asked: dict[RequestId, Asked] = {}
        self.checked: set[RequestId] = set()

    # -- what callers do -------------------------------------------------------------------------

    @rule(
        prompt=PROMPTS,
        max_tokens=st.integers(1, 6) | st.integers(1, 30),
        namespace=st.sampled_from(["a", "a", "a", "b"]),
        owner=st.sampled_from([None, "alice", "bob"]),
        boundary=st.integers(0, 40),
        priority=st.sampled_from(Priority),
    )
    def submit(
        self,
        prompt: list[int],
        max_tokens: int,
        namespace: str,
        owner: object,
        boundary: int,
        priority: Priority = Priority.INTERACTIVE,
    ) -> None:
        try:
            request_id = self.some.submit(
                prompt,
                namespace=namespace,
                owner=owner,
                boundaries=(boundary,),
                priority=priority,
                max_tokens=max_tokens,
            )
        except RequestTooLargeError:
            return
        self.asked[request_id] = Asked(prompt, max_tokens, namespace, owner)

    @rule(prompt=PROMPTS, times=st.integers(2, 4), max_tokens=st.integers(1, 3))
    def submit_several_at_once(self, prompt: list[int], times: int, max_tokens: int) -> None:
        for number in range(times):
            self.submit([*prompt, number + 1], max_tokens, "a", None, 0)

    @precondition(lambda self: self.contexts)
    @rule(which=PICK, rest=st.lists(st.integers(1, 4), min_size=1, max_size=6), max_tokens=st.integers(1, 6))
    def go_on_with_a_context(self, which: int, rest: list[int], max_tokens: int) -> None:
        context, namespace, owner = self.contexts[which % len(self.contexts)]
        self.submit([*context, *rest], max_tokens, namespace, owner, len(context))

    @rule(prompt=PROMPTS, where=st.integers(0, 40))
    def submit_poison(self, prompt: list[int], where: int) -> None:
        self.submit([*prompt[:where], POISON, *prompt[where:]], 2, "a", None, 0)

    @precondition(lambda self: self.some.engine.has_work)
    @rule(which=PICK)
    def cancel(self, which: int) -> None:
        alive = [request_id for request_id in self.asked if request_id not in self.some.ends]
        self.some.cancel(alive[which % len(alive)])

    @precondition(lambda self: len(self.some.engine.cache.index))
    @rule(which=PICK, owner=st.sampled_from(["alice", "bob"]), several=st.integers(0, 3))
    def refer(self, which: int, owner: str, several: int) -> None:
        """As an agent does after its turn."""
        blocks = list(self.some.engine.cache.index)
        chosen = [blocks[(which + i) % len(blocks)].hash for i in range(several)]
        self.some.engine.cache.references.replace(owner, chosen)

    # -- what happens meanwhile ------------------------------------------------------------------

    @rule(times=st.integers(1, 6))
    def step(self, times: int) -> None:
        self.some.step(times)

    @rule(most=st.integers(1, 3))
    def write(self, most: int) -> None:
        self.some.write(most)

    @rule(which=PICK)
    def read(self, which: int) -> None:
        self.some.readers._tasks.rotate(-which)
        self.some.read(1)

    @rule()
    def do_io(self) -> None:
        self.some.do_io()

    @rule()
    def run(self) -> None:
        self.some.run()

    @precondition(lambda self: self.store.stats().blocks)
    @rule(which=PICK, is_lost=st.booleans())
    def damage(self, which: int, is_lost: bool) -> None:
        names = list(self.store._blocks)
        name = names[which % len(names)]
        if is_lost:
            self.store.delete([name])
            self.is_store_complete = False
        else:
            self.store.damage(name)
        self.may_lose_blocks = True

    @rule(full=st.booleans())
    def fill_the_disk(self, full: bool) -> None:
        self.store.full = full

    @rule(crashes=st.booleans())
    def restart(self, crashes: bool) -> None:
        if not crashes:
            self.some.engine.close()
            self.store.reopen()
        self.start()

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def every_answer_is_that_of_a_run_from_the_start(self) -> None:
        for request_id in self.some.ends:
            if request_id in self.checked:
                continue
            self.checked.add(request_id)
            asked = self.asked[request_id]
            if request_id in self.some.errors:
                assert "told to fail on token 200" in str(self.some.errors[request_id])
                continue
            completion = self.some.completion(request_id)
            expected = cold(asked.prompt, asked.max_tokens)
            if completion.finish_reason is FinishReason.CANCELLED:
                expected = expected[: len(completion.token_ids)]
            assert completion.token_ids == expected
            assert completion.usage.cached_tokens < completion.usage.prompt_tokens
            self.contexts.append(([*asked.prompt, *expected], asked.namespace, asked.owner))

    @invariant()
    def every_block_is_somewhere_and_holds_what_its_name_says(self) -> None:
        engine = self.some.engine
        pool, index, memory = engine.pool, engine.cache.index, engine.model.memory
        if self.is_store_complete:
            check_integrity(engine)
        pool.check_integrity()
        assert pool._evictable.keys() | pool._holders.keys() >= memory.blocks.keys(), "memory of free blocks"
        for block in index:
            assert block.is_resident or engine.cache.transfer.is_persisted(block), "a block that is nowhere"
            if block.block_id is None:
                continue
            assert block.block_id in pool._evictable or pool.holders(block.block_id), "a block in free memory"
            assert block in index.residents(block.block_id)
            tokens = memory.blocks[block.block_id].held(block.num_tokens)
            assert pack_tokens(tokens) == block.tokens, "rows of an indexed block have changed"
            assert memory.blocks[block.block_id].has_state or not block.has_state, "a state is missing"
        for block_id in pool._evictable:
            assert index.residents(block_id), "memory is kept that nothing can find"

    @invariant()
    def only_blocks_that_were_damaged_are_lost(self) -> None:
        assert self.may_lose_blocks or not self.some.engine.stats().lost_blocks

    @invariant()
    def nothing_is_held_when_nothing_is_done(self) -> None:
        engine = self.some.engine
        if not engine.has_work and not self.some.writer._tasks and not self.some.readers._tasks:
            assert engine.pool.num_in_use == 0
            assert not engine.cache.transfer.is_busy

    def teardown(self) -> None:
        """Everything comes to an end."""
        if hasattr(self, "some"):
            self.some.run()
            self.every_answer_is_that_of_a_run_from_the_start()
            self.nothing_is_held_when_nothing_is_done()
            self.some.engine.close()


class PagesReusedAnywhere(CachingMachine):
    layout, reuse = "paged", Reuse.ANYWHERE


class CopiesReusedAnywhere(CachingMachine):
    layout, reuse = "contiguous", Reuse.ANYWHERE


class CopiesReusedAtStates(CachingMachine):
    layout, reuse = "contiguous", Reuse.AT_STATES


class PagesReusedAtChunks(CachingMachine):
    layout, reuse = "paged", Reuse.AT_CHUNKS


class CopiesReusedAtChunks(CachingMachine):
    layout, reuse = "contiguous", Reuse.AT_CHUNKS


for machine in (
    PagesReusedAnywhere,
    CopiesReusedAnywhere,
    CopiesReusedAtStates,
    PagesReusedAtChunks,
    CopiesReusedAtChunks,
):
    machine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)

TestPagesReusedAnywhere = PagesReusedAnywhere.TestCase
TestCopiesReusedAnywhere = CopiesReusedAnywhere.TestCase
TestCopiesReusedAtStates = CopiesReusedAtStates.TestCase
TestPagesReusedAtChunks = PagesReusedAtChunks.TestCase
TestCopiesReusedAtChunks = CopiesReusedAtChunks.TestCase
