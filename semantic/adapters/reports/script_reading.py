"""What can be read off an experiment's script: where its criteria stand, which none measures, where an error arose."""

import ast
import re
import traceback
from collections.abc import Collection, Iterable
from pathlib import Path

_DECLARING = ("must", "nice", "Criterion", "Hypothesis")
_MAKES_ITS_ID = ast.JoinedStr | ast.BinOp | ast.Attribute


def criterion_lines(tree: ast.AST, ids: Collection[str]) -> dict[str, int]:
    """The line in which each criterion is declared: where a call such as ``must("C1", ...)`` begins."""
    lines = {}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.args:
            first = call.args[0]
            declares = call.func.id in _DECLARING[:-1]
            if declares and isinstance(first, ast.Constant) and first.value in ids:
                lines[str(first.value)] = call.lineno
    return lines


def first_lines(tree: ast.AST, texts: Collection[str]) -> dict[str, int]:
    """The first line in which each of these stands as a text of its own."""
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in texts:
            found[node.value] = min(node.lineno, found.get(node.value, node.lineno))
    return found


def unmeasured(tree: ast.AST, ids: Iterable[str]) -> tuple[str, ...]:
    """Criteria whose id stands nowhere but in declarations. A script that makes its ids up is given the benefit.

    An f-string, a ``+`` or a ``criterion.id`` may name any of them, so a script that measures by one is not judged.
    """
    named, builds = set(), False
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _DECLARING:
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "measure":
            builds |= bool(node.args) and isinstance(node.args[0], _MAKES_ITS_ID)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.add(node.value)
        stack.extend(ast.iter_child_nodes(node))
    return () if builds else tuple(id for id in ids if id not in named)


def line_matching(path: Path, pattern: str) -> int:
    """The first line in which the pattern is found, 1 where it is not. The file need not be valid Python."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 1
    return next((number for number, line in enumerate(lines, start=1) if re.search(pattern, line)), 1)


def line_in(path: Path, error: BaseException) -> int:
    """The line of this file that the error came through; of a syntax error, the line it names."""
    name = str(path.absolute())  # as the import system calls it, wherever the caller looked from
    if isinstance(error, SyntaxError) and error.filename == name:
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
    return lines[-1] or 1 if lines else 1
