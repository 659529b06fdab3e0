"""Product and technical support: generated conversations, and the documentation of a cloud's
services as botocore carries it."""

import gzip
import html
import json
import random
import re
from collections.abc import Iterator
from typing import Any

from bench.pii.kinds.grammar import endless
from bench.pii.kinds.row import PACKAGES, Row, alternating, files, is_clean, shuffled

LARGEST_FILE = 60_000
FROM_ONE_FILE = 15
TAG = re.compile(r"<[^<>]*>")


def rows(draw: random.Random) -> Iterator[Row]:
    return alternating(draw, _conversations(draw), _conversations(draw), _documentation(draw))


def _conversations(draw: random.Random) -> Iterator[Row]:
    for text in endless("support", draw):
        yield Row(tuple(turn.strip() for turn in text.split("%TURN")))


def _documentation(draw: random.Random) -> Iterator[Row]:
    for path in shuffled(files((PACKAGES / "botocore",), "service-2.json.gz"), draw):
        if path.stat().st_size <= LARGEST_FILE:
            service = json.loads(gzip.decompress(path.read_bytes()))
            texts = sorted({_plain(text) for text in _documented(service)})
            for text in shuffled([one for one in texts if is_clean(one, 80)], draw)[:FROM_ONE_FILE]:
                yield Row((text,))


def _documented(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            if name == "documentation" and isinstance(part, str):
                yield part
            else:
                yield from _documented(part)
    elif isinstance(value, list):
        for part in value:
            yield from _documented(part)


def _plain(text: str) -> str:
    return " ".join(html.unescape(TAG.sub(" ", text)).split())
