"""Finds safetensors files that are cut short, which MLX would only notice while evaluating."""

import json
import struct
from pathlib import Path

from semantic.domain.errors import ModelDamagedError


def check_safetensors(path: Path) -> None:
    """Compare the header's offsets with the file's size. Raises ``ModelDamagedError``."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            if header_bytes > size:
                raise ValueError(f"its header would be {header_bytes} bytes")
            header = json.loads(file.read(header_bytes))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ModelDamagedError(f"{path} is no whole safetensors file ({exc}); fetch it again") from exc
    expected = 8 + header_bytes + max(ends, default=0)
    if size < expected:
        raise ModelDamagedError(f"{path} is cut short: {size} bytes where its header says {expected}; fetch it again")
