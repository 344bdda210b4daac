"""Puts a loaded model into the compute dtype."""

from typing import Any

from semantic.adapters.mlx.runtime import Runtime


def to_compute_dtype(model: Any, runtime: Runtime) -> Any:
    """Cast the model's floating parameters; on CPU expand quantised weights once, in the compute dtype.

    Scales are cast *before* expanding: dequantising with 16-bit scales would round every weight a second
    time. ``compute_dtype == "model"`` leaves everything as it is. The result is lazy: materialise it.
    """
    if runtime.compute_dtype == "model":
        return model
    import mlx.core as mx
    from mlx_lm.utils import dequantize_model

    dtype = getattr(mx, runtime.compute_dtype)
    model.set_dtype(dtype)
    if runtime.dequantises:
        model = dequantize_model(model)
        model.set_dtype(dtype)  # the mxfp modes expand to bfloat16 whatever their scales are
    return model
