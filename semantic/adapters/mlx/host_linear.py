"""Large matrices times a few rows, in numpy, where MLX runs on the CPU.

MLX calls the BLAS's matrix-matrix product for a single row too, which packs the whole matrix: the output projection of
the default model takes 6.2 ms, 18 GB/s, and 7.4 for eight rows. Here it takes 2.5 and 5.3 (ADR 0006).
"""

from collections.abc import Iterator
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from semantic.adapters.mlx.host_scope import on_host
from semantic.adapters.mlx.page_arena import Array
from semantic.adapters.mlx.team import Team

_SMALLEST = 16 * 2**20
"""Bytes of a matrix from which on the time saved is well above the wait for MLX."""

_MOST_ROWS = 16
"""Beyond so many rows MLX's own product is as fast."""

_FEW_ROWS = 4
"""Up to here every row is a matrix-vector product of its own, on pieces of the matrix that stay in the L2 cache."""


class HostLinears:
    """Serves the large plain projections of a model until released; each falls back to MLX outside our forwards.

    Only the class of those module objects changes, to a subclass; weights, names and the tree stay.
    """

    def __init__(self, model: nn.Module, team: Team) -> None:
        self._served: list[nn.Module] = []
        for module in _large_projections(model):
            module.__class__ = _HOST_CLASSES[type(module)]
            module._host_matrix = _HostMatrix(np.array(cast(Any, module).weight, copy=False), team)
            self._served.append(module)

    def release(self) -> None:
        """Give the modules their classes back. Releasing twice is a no-op."""
        for module in self._served:
            module.__class__ = type(module).__mro__[1]
            del module._host_matrix
        self._served = []


class _HostMatrix:
    """``[out, in]`` float32 weights and the team that multiplies them."""

    def __init__(self, weights: Array, team: Team) -> None:
        self._weights, self._team = weights, team

    def serves(self, x: mx.array) -> bool:
        """Whether ``x`` is a few float32 rows, in a forward of ours."""
        return on_host() and x.size <= _MOST_ROWS * self._weights.shape[1] and x.dtype == mx.float32

    def times(self, x: mx.array) -> mx.array:
        """``x @ weights.T``."""
        mx.eval(x)
        rows = np.array(x, copy=False).reshape(-1, self._weights.shape[1])
        output = np.empty((len(rows), len(self._weights)), np.float32)
        few = len(rows) <= _FEW_ROWS
        step = 512 if few else 4096
        pieces = iter([slice(start, start + step) for start in range(0, len(self._weights), step)])

        def work() -> None:
            for piece in pieces:
                weights = self._weights[piece]
                if few:
                    for row, products in zip(rows, output, strict=True):
                        np.dot(weights, row, out=products[piece])
                else:
                    np.matmul(rows, weights.T, out=output[:, piece])

        self._team.run(work)
        return mx.array(output.reshape(*x.shape[:-1], -1))


class _HostLinear(nn.Linear):  # type: ignore[misc]
    def __call__(self, x: mx.array) -> mx.array:
        product = _times(self, x)
        return nn.Linear.__call__(self, x) if product is None else product


class _HostEmbedding(nn.Embedding):  # type: ignore[misc]
    def as_linear(self, x: mx.array) -> mx.array:
        product = _times(self, x)
        return nn.Embedding.as_linear(self, x) if product is None else product


def _times(module: nn.Module, x: mx.array) -> mx.array | None:
    """None where MLX does it itself, or the engine that served the module has just been closed elsewhere."""
    matrix: _HostMatrix | None = getattr(module, "_host_matrix", None)
    return matrix.times(x) if matrix is not None and matrix.serves(x) else None


_HOST_CLASSES: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: _HostLinear, nn.Embedding: _HostEmbedding}


def _large_projections(model: nn.Module) -> Iterator[nn.Module]:
    """Large float32 ``nn.Linear`` without bias and ``nn.Embedding``, each once and none that is served already."""
    seen: set[int] = set()
    for module in model.modules():
        if type(module) in _HOST_CLASSES and "bias" not in module and id(module) not in seen:
            seen.add(id(module))
            weight = module.weight
            if weight.dtype == mx.float32 and weight.nbytes >= _SMALLEST:
                yield module
