"""Functions and classes of the standard library and of installed packages."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path

from bench.pii.kinds.row import PACKAGES, STANDARD_LIBRARY, Row, files, is_clean, read, shuffled

ASKED = (
    "What does this do?\n\n{code}", "{code}", "Explain this function:\n```python\n{code}\n```",
    "Is there a bug in it?\n```\n{code}\n```", "```python\n{code}\n```\nAdd type hints, please.",
    "Here is the code:\n\n{code}\n\nCan it be faster?",
)  # fmt: skip
FROM_ONE_FILE = 6


def rows(draw: random.Random) -> Iterator[Row]:
    for path in shuffled(files((STANDARD_LIBRARY, PACKAGES), "*.py"), draw):
        for code in shuffled(_definitions(path), draw)[:FROM_ONE_FILE]:
            yield Row((draw.choice(ASKED).format(code=code),))


def _definitions(path: Path) -> list[str]:
    """The functions, methods and classes of a file that may be measured with."""
    source = read(path)
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    lines = source.splitlines()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            code = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            if is_clean(code):
                found.append(code)
    return found
