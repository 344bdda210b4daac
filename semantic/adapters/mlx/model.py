"""The model port on MLX: one forward for a prefill chunk, one for a decode step."""

import threading
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from attrs import evolve

from semantic.adapters.mlx.attention_seam import AttentionSeam
from semantic.adapters.mlx.host_linear import HostLinears
from semantic.adapters.mlx.host_scope import host_operations
from semantic.adapters.mlx.host_swiglu import HostSwiglu
from semantic.adapters.mlx.lanes import ONE_BY_ONE, Memory
from semantic.adapters.mlx.numpy_blas import NumpyBlas
from semantic.adapters.mlx.sampler import Sampler
from semantic.adapters.mlx.team import Team
from semantic.adapters.mlx.verification import choose_verified
from semantic.application.ports.model import DecodeRow, Drawn, ModelProfile


class MLXLanguageModel:
    """An mlx_lm model whose arrays were materialised before. Binds the attention seam until :meth:`release`."""

    def __init__(self, model: nn.Module, profile: ModelProfile, memory: Memory, team: Team) -> None:
        self._model = model
        self.profile = profile
        self.memory: Any = memory
        self._team = team
        self._one_by_one = profile.batching == ONE_BY_ONE
        self._on_host = profile.device == "cpu" and not self._one_by_one
        self._sampler = Sampler(on_host=self._on_host)
        self._numpy_blas = NumpyBlas()
        mx.clear_cache()
        self._cache_limit: int | None = mx.set_cache_limit(profile.workspace.cache_bytes)
        self._bound: list[AttentionSeam | HostSwiglu | HostLinears] = [AttentionSeam(model)]
        if self._on_host:
            self._bound += [HostSwiglu(model), HostLinears(model, team)]

    def prefill(self, cache: Any, token_ids: Sequence[int]) -> None:
        """Run the chunk for its keys and values; the logits stay lazy and are never computed."""
        self._forward([list(token_ids)], [cache])
        if self.memory.layout == "contiguous":
            cache.evaluate()
        mx.clear_cache()

    def decode(self, rows: Sequence[DecodeRow]) -> list[tuple[Drawn, ...]]:
        """One forward over all rows that can share it, or one for each where the lane says so."""
        rows = [self._with_what_can_be_verified(row) for row in rows]
        chosen: dict[int, tuple[Drawn, ...]] = {}
        for numbers in self._batches(rows):
            chosen.update(zip(numbers, self._decode_batch([rows[number] for number in numbers]), strict=True))
        return [chosen[number] for number in range(len(rows))]

    def logits(self, cache: Any, token_ids: Sequence[int]) -> mx.array:
        """Append the tokens' keys and values to ``cache``. What follows each of them, as ``[tokens, vocab]``."""
        return self._forward([list(token_ids)], [cache])[0]

    def release(self) -> None:
        """Give the model's modules back as they were, free all caches, and end this thread's use of MLX."""
        for bound in self._bound:
            bound.release()
        self.memory.clear()
        self._team.close()
        mx.clear_cache()
        if self._cache_limit is not None:
            mx.set_cache_limit(self._cache_limit)
            self._cache_limit = None
        if threading.current_thread() is not threading.main_thread():
            mx.clear_streams()  # a thread that ends with streams open aborts the process

    def _with_what_can_be_verified(self, row: DecodeRow) -> DecodeRow:
        if not row.draft:
            return row
        can_be_cut = self.profile.verifies_drafts != "never" and self.memory.can_trim(row.cache, 1 + len(row.draft))
        return row if can_be_cut else evolve(row, draft=())

    def _batches(self, rows: Sequence[DecodeRow]) -> list[list[int]]:
        if self._one_by_one:
            return [[number] for number in range(len(rows))]
        if self.memory.layout == "paged":
            return [list(range(len(rows)))]
        apart = [number for number, row in enumerate(rows) if row.draft]
        together = [number for number, row in enumerate(rows) if not row.draft]
        groups = self.memory.together([rows[number].cache for number in together])
        return [[number] for number in apart] + [[together[i] for i in group] for group in groups]

    def _decode_batch(self, rows: Sequence[DecodeRow]) -> list[tuple[Drawn, ...]]:
        caches = [row.cache for row in rows]
        if not any(row.draft for row in rows):
            logits = self._forward([[row.token_id] for row in rows], caches)
            return [(drawn,) for drawn in self._sampler.choose(logits[:, -1, :], rows)]
        lengths = [cache.num_tokens for cache in caches]
        fed = [[row.token_id, *row.draft] for row in rows]
        forward = self._flat_forward if self.memory.layout == "paged" else self._forward
        logits = forward(fed, caches)
        draws = choose_verified(self._sampler.choose, logits.reshape(-1, logits.shape[-1]), rows)
        for cache, length, drawn in zip(caches, lengths, draws, strict=True):
            self.memory.trim(cache, length + len(drawn))
        return draws

    def _forward(self, token_ids: list[list[int]], caches: list[Any]) -> mx.array:
        """Logits ``[rows, tokens, vocabulary]``; every row has equally many tokens."""
        tokens = len(token_ids[0])
        logits = self._run(token_ids, self.memory.layer_caches(caches, tokens))
        self.memory.commit(caches, tokens)
        return logits

    def _flat_forward(self, token_ids: list[list[int]], caches: list[Any]) -> mx.array:
        """Logits ``[tokens of all rows, 1, vocabulary]``, over pages."""
        tokens = [len(own) for own in token_ids]
        flat = [[token] for own in token_ids for token in own]
        logits = self._run(flat, self.memory.flat_layer_caches(caches, tokens))
        for cache, own in zip(caches, tokens, strict=True):
            self.memory.commit([cache], own)
        return logits

    def _run(self, token_ids: list[list[int]], layer_caches: list[Any]) -> mx.array:
        with self._numpy_blas.single_threaded(), host_operations(self._on_host):
            logits: mx.array = self._model(mx.array(token_ids), cache=layer_caches)
        return logits
