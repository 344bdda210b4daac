"""Requests, cancellations, deadlines and a slow or damaged store at random, in too little memory: all end as alone."""

from random import Random
from typing import Any

import attrs
import pytest
from driving import Driven, DrivenWithStore, Oracle, cold, driven, driven_with_store

from semantic.adapters.fakes import FakeModel, MemoryStore
from semantic.application.integrity import check_integrity
from semantic.domain.errors import DeadlineExceededError, RequestTooLargeError
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import FinishReason, Reuse, Workspace

KINDS = [
    ("paged", Reuse.ANYWHERE),
    ("contiguous", Reuse.ANYWHERE),
    ("contiguous", Reuse.AT_STATES),
    ("contiguous", Reuse.AT_CHUNKS),
]


def engine(chance: Random, layout: str, reuse: Reuse) -> Driven:
    model = FakeModel(layout=layout, reuse=reuse)
    if chance.random() < 0.4:
        per_token = model.profile.cache_spec.bytes_per_block // 32
        model.profile = attrs.evolve(model.profile, workspace=Workspace(bytes_per_context_token=per_token))
    parts: dict[str, Any] = {
        "blocks": chance.choice([12, 16, 24]),
        "max_num_seqs": chance.choice([1, 2, 4]),
        "prompt_lookup_num_tokens": chance.choice([0, 4]),
        "make_drafter": lambda token_ids: Oracle(token_ids, wrong=5),
    }
    return driven_with_store(MemoryStore(), model, **parts) if chance.random() < 0.6 else driven(model, **parts)


def submit(some: Driven, chance: Random, asked: dict[RequestId, tuple[int, ...]]) -> None:
    prompt = [chance.choice([1, 2])] * chance.choice([3, 17, 20, 33]) + [chance.randint(3, 9)] * chance.randint(1, 6)
    most = chance.randint(1, 60)
    try:
        request_id = some.submit(
            prompt,
            max_tokens=most,
            priority=chance.choice(["interactive", "background"]),
            owner=chance.choice([None, "a", "b"]),
            deadline_s=chance.choice([None, None, None, 0.5]),
        )
    except RequestTooLargeError:
        return
    asked[request_id] = cold(prompt, most)


def meddle(some: Driven, chance: Random) -> None:
    """Cancel something, or let the store do some of its work or lose a block, or go on."""
    what = chance.random()
    if what < 0.06 and some.engine._requests:
        some.cancel(chance.choice(list(some.engine._requests)))
    elif what < 0.3 and isinstance(some, DrivenWithStore):
        chance.choice([some.write, some.read])(chance.choice([1, None]))
    elif what < 0.33 and isinstance(some, DrivenWithStore):
        for block in some.store.blocks(some.engine.context.digest)[:1]:
            some.store.damage(block.hash)
    else:
        some.step()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("layout", "reuse"), KINDS)
def test_whatever_happens_all_requests_end_and_say_what_they_say_alone(seed: int, layout: str, reuse: Reuse) -> None:
    chance, asked = Random(seed), dict[RequestId, tuple[int, ...]]()
    some = engine(chance, layout, reuse)
    for _ in range(120):
        if chance.random() < 0.2:
            submit(some, chance, asked)
        else:
            meddle(some, chance)
        check_integrity(some.engine)
    some.run()
    check_integrity(some.engine)
    assert sorted(some.ends) == sorted(asked)
    for request_id, expected in asked.items():
        error = some.errors.get(request_id)
        assert error is None or isinstance(error, DeadlineExceededError)
        done = some.completion(request_id) if error is None else error.completion
        is_whole = error is None and done.finish_reason is FinishReason.LENGTH
        assert done.token_ids == (expected if is_whole else expected[: len(done.token_ids)])
