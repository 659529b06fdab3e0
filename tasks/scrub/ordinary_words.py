"""Guesses at names that are ordinary words of a language.

The detector sometimes takes a rare word for a name, most often in the languages that it knows less
well. Such a guess is dropped if a language uses the word, nobody bears it as a name, and its case
says nothing: small letters, the first word of a sentence, a German noun.
"""

import json
import re
from pathlib import Path
from typing import Self

from data_contracts.findings import Finding
from data_contracts.policy import TAUGHT
from tasks.scrub.languages import stop_words
from tasks.scrub.recognizers import announcing
from tasks.scrub.recognizers.surroundings import starts_sentence
from tasks.text import WORD

FILE = "ordinary_words.json"
NAMES = frozenset({"PERSON", "LOCATION", "ORGANIZATION"})
NOUNS_ARE_LARGE = "de"
# The beginning of a text, enough to tell which taught language it is in.
CHARACTERS = 400


class OrdinaryWords:
    """The words that `tasks.scrub.synthetic.ordinary` lists.

    Args:
        words: {kind: words in small letters}, of the kinds `small`, `large` and `nouns`.
    """

    def __init__(self, words: dict[str, list[str]]) -> None:
        self._small, self._large, self._nouns = (
            frozenset(words.get(kind, ())) for kind in ("small", "large", "nouns")
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the list in a detector's folder.

        Raises:
            OSError: there is no list.
            ValueError: the list is not JSON.
        """
        return cls(json.loads((folder / FILE).read_text(encoding="utf-8")))

    def hold(self, found: Finding, text: str) -> bool:
        """Whether a finding takes nothing but ordinary words for a name."""
        if found.entity not in NAMES:
            return False
        words = list(WORD.finditer(text, found.start, found.end))
        if not words or any(map(str.isdigit, text[found.start : found.end])):
            return False
        if announcing.announces(found.entity, text, found.start, found.end):
            return False
        return all(self._is_written_so(word, text) for word in words)

    def _is_written_so(self, word: re.Match[str], text: str) -> bool:
        """Whether a word is ordinary in the case in which it is written at its place."""
        folded = word[0].casefold()
        if word[0].islower():
            return folded in self._small or any(folded in stop_words(code) for code in TAUGHT)
        if not word[0].istitle():
            return False
        if starts_sentence(text, word.start()):
            return folded in self._large
        return folded in self._nouns and is_german(text)


def is_german(text: str) -> bool:
    """Whether more of a text's words are common in German than in another taught language."""
    words = [word.casefold() for word in WORD.findall(text[:CHARACTERS])]
    counts = {code: sum(word in stop_words(code) for word in words) for code in TAUGHT}
    return counts[NOUNS_ARE_LARGE] > 0 and counts[NOUNS_ARE_LARGE] == max(counts.values())
