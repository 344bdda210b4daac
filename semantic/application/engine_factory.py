"""Engines for experiments: one model, loaded once, opened in either lane as often as asked."""

from typing import Any

from semantic.application.engine import Engine
from semantic.application.engine_options import EngineOptions
from semantic.application.open_engine import OpenEngine
from semantic.application.ports.model_source import LoadedModel
from semantic.domain.value_objects import parse_size


class EnginesOnOneModel:
    """Fulfils the engine factory port. The model is loaded when the first engine is opened, and kept."""

    def __init__(self, opener: OpenEngine, model: Any) -> None:
        self._opener, self._model = opener, model
        self._loaded: LoadedModel | None = None

    def loaded(self) -> LoadedModel:
        """The model itself."""
        if self._loaded is None:
            self._loaded = self._opener.load(self._model)
        return self._loaded

    def open(
        self,
        *,
        exactness: str = "token",
        max_num_seqs: int = 8,
        max_token_gap_ms: float | None = 500.0,
        prefill_step_size: int | None = None,
        cache_layout: str = "auto",
        memory: str = "2GB",
        store: str | None = None,
        prefix_caching: bool = True,
        kv_bits: int | str | None = None,
        kv_group_size: int = 64,
        kv_at_rest: str = "exact",
        prompt_lookup_num_tokens: int = 15,
    ) -> Engine:
        """Open an engine; close it before opening the next, or two share the machine."""
        options = EngineOptions(
            memory_bytes=parse_size(memory),
            exactness=exactness,
            cache_layout=cache_layout,
            max_num_seqs=max_num_seqs,
            max_token_gap_ms=max_token_gap_ms,
            prefill_step_size=prefill_step_size,
            store=store,
            prefix_caching=prefix_caching,
            kv_bits=kv_bits,
            kv_group_size=kv_group_size,
            kv_at_rest=kv_at_rest,
            prompt_lookup_num_tokens=prompt_lookup_num_tokens,
        )
        return self._opener.open(self.loaded(), options)
