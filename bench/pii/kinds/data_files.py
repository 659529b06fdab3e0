"""JSON and YAML: pieces of real files of installed packages, and generated ones."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bench.pii.kinds.grammar import endless
from bench.pii.kinds.row import PACKAGES, Row, alternating, files, is_clean, read, shuffled

ASKED = ("{text}", "```{kind}\n{text}\n```", "What is wrong with this {kind}?\n\n{text}")
LARGEST_FILE = 400_000
FROM_ONE_FILE = 4
FEWEST_CHARACTERS, MOST_CHARACTERS = 60, 2000


def json_rows(draw: random.Random) -> Iterator[Row]:
    return alternating(draw, _real(draw, "json"), _generated(draw, "json"))


def yaml_rows(draw: random.Random) -> Iterator[Row]:
    return alternating(draw, _real(draw, "yaml"), _generated(draw, "yaml"))


def _real(draw: random.Random, kind: str) -> Iterator[Row]:
    """Parts of real JSON files; as YAML, where packages carry few files, most are rewritten."""
    paths = files((PACKAGES,), "*.json")
    if kind == "yaml":
        paths += 20 * files((PACKAGES,), "*.y*ml")
    for path in shuffled(paths, draw):
        if path.stat().st_size <= LARGEST_FILE:
            for part in _parts(path, draw):
                text = _written(part, kind, draw)
                if is_clean(text):
                    yield Row((draw.choice(ASKED).format(text=text, kind=kind),))


def _parts(path: Path, draw: random.Random) -> list[Any]:
    """Objects and arrays inside a file that are about as long as a message."""
    try:
        whole = json.loads(read(path)) if path.suffix == ".json" else yaml.safe_load(read(path))
    except (ValueError, yaml.YAMLError):
        return []
    found, left = [], [whole]
    while left:
        value = left.pop()
        if not isinstance(value, dict | list):
            continue
        size = len(json.dumps(value, default=str))
        if FEWEST_CHARACTERS <= size <= MOST_CHARACTERS:
            found.append(value)
        elif size > MOST_CHARACTERS:
            left += value.values() if isinstance(value, dict) else value
    return shuffled(found, draw)[:FROM_ONE_FILE]


def _written(value: Any, kind: str, draw: random.Random) -> str:
    if kind == "yaml":
        return yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False)
    return json.dumps(value, indent=draw.choice((None, 2, 4)), default=str)


def _generated(draw: random.Random, kind: str) -> Iterator[Row]:
    for text in endless("json", draw):
        written = _written(json.loads(text), kind, draw)
        yield Row((draw.choice(ASKED).format(text=written, kind=kind),))
