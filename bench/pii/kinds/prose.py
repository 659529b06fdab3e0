"""Encyclopaedic and technical prose: Python's language reference, the descriptions and docstrings
of packages, articles about things; nothing about people."""

import ast
import inspect
import pydoc_data.topics
import random
import re
from collections.abc import Iterator
from importlib import metadata

from bench.pii.kinds.grammar import endless
from bench.pii.kinds.row import PACKAGES, Row, alternating, files, is_clean, read, shuffled

SOURCES = ("numpy", "scipy", "sklearn", "sympy", "networkx", "torch", "statistics", "matplotlib")
FROM_ONE_FILE = 5
PARAGRAPH = re.compile(r"\n\s*\n")
PROSE = re.compile(r"[A-Z][^\n]*(?:\n[^\n]+)*[.:]")
FEWEST_CHARACTERS = 120


def rows(draw: random.Random) -> Iterator[Row]:
    articles = (Row((text,)) for text in endless("prose", draw))
    return alternating(draw, articles, _docstrings(draw), _paragraphs(draw))


def _paragraphs(draw: random.Random) -> Iterator[Row]:
    texts = list(pydoc_data.topics.topics.values())
    texts += [
        str(package.metadata.json.get("description", "")) for package in metadata.distributions()
    ]
    paragraphs = sorted(
        {part.strip() for text in texts for part in PARAGRAPH.split(text) if _is_prose(part)}
    )
    yield from (Row((text,)) for text in shuffled(paragraphs, draw))


def _docstrings(draw: random.Random) -> Iterator[Row]:
    roots = [PACKAGES / name for name in SOURCES]
    for path in shuffled(files(roots, "*.py"), draw):
        try:
            tree = ast.parse(read(path))
        except (SyntaxError, ValueError, RecursionError):
            continue
        found = []
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = inspect.cleandoc(ast.get_docstring(node) or "")
                found += [part.strip() for part in PARAGRAPH.split(text) if _is_prose(part)]
        yield from (Row((text,)) for text in shuffled(found, draw)[:FROM_ONE_FILE])


def _is_prose(text: str) -> bool:
    return PROSE.fullmatch(text.strip()) is not None and is_clean(text, FEWEST_CHARACTERS)
