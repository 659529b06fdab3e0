"""Guesses at names that are ordinary words of a language.

A detector takes a rare word for a name now and then, most of all where it knows a language less
well. A word that is written small, or large as every first word of a sentence and every German noun
is, and that a language uses without its being anybody's name, is that word.
"""

import json
import re
from pathlib import Path
from typing import Self

from data_contracts.findings import Finding
from data_contracts.policy import TAUGHT
from tasks.scrub.languages import common_words
from tasks.scrub.recognizers import announcing

FILE = "ordinary_words.json"
NAMES = frozenset({"PERSON", "LOCATION", "ORGANIZATION"})
WORD = re.compile(r"[^\W\d_]+")
SENTENCE_START = re.compile(r"(?:^|[.!?:\u2026\n>*#\"'\u201c\u201e\u00ab(|-]|\d[.)])\s*\Z")
NOUNS_ARE_LARGE = "de"
# Of a text, enough to tell which of the taught languages it is in.
CHARACTERS = 400


class OrdinaryWords:
    """Args: words: as `tasks.scrub.synthetic.ordinary` lists them."""

    def __init__(self, words: dict[str, list[str]]) -> None:
        self._small, self._large, self._nouns = (
            frozenset(words.get(kind, ())) for kind in ("small", "large", "nouns")
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Of a detector's folder. Raises OSError, ValueError: it is not there, or not whole."""
        return cls(json.loads((folder / FILE).read_text(encoding="utf-8")))

    def hold(self, found: Finding, text: str) -> bool:
        """Whether a finding of a name is ordinary words alone."""
        if found.entity not in NAMES:
            return False
        words = list(WORD.finditer(text, found.start, found.end))
        if not words or any(map(str.isdigit, text[found.start : found.end])):
            return False
        if announcing.announces(found.entity, text, found.start, found.end):
            return False
        return all(self._is_written_so(word, text) for word in words)

    def _is_written_so(self, word: re.Match[str], text: str) -> bool:
        """Whether a word is an ordinary one as it is written, where it stands."""
        folded = word[0].casefold()
        if word[0].islower():
            return folded in self._small or any(folded in common_words(code) for code in TAUGHT)
        if not word[0].istitle():
            return False
        if SENTENCE_START.search(text[max(word.start() - 4, 0) : word.start()]):
            return folded in self._large
        return folded in self._nouns and is_german(text)


def is_german(text: str) -> bool:
    """Whether more of a text's words are common in German than in another taught language."""
    words = [word.casefold() for word in WORD.findall(text[:CHARACTERS])]
    counts = {code: sum(word in common_words(code) for word in words) for code in TAUGHT}
    return counts[NOUNS_ARE_LARGE] > 0 and counts[NOUNS_ARE_LARGE] == max(counts.values())
