"""The Python blocks of a document."""

import re
from pathlib import Path
from typing import Any


def blocks_of(document: Path) -> list[str]:
    """In the order they stand there."""
    return re.findall(r"^```python\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def run(document: Path, blocks: list[str]) -> int:
    """Run blocks in one namespace, and count them."""
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(document), "exec"), names)
    return len(blocks)
