"""Words that announce personal data, in seven languages: "my phone is ...", "Handy: ...".

The words stand in `announcing_words.yaml`. A word announces a value from close by (`announces`:
only connecting words such as "is" or "number" stand between) or from the same line (`is_near`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import resources

import yaml

# How far an announcing word may stand from a value, in characters.
BEFORE, AFTER = 48, 24
# How many connecting words may stand between.
MOST_CONNECTORS = 6
LONGEST_PHRASE = 4

_TOKEN = re.compile(r"[^\W_]+(?:['\u2019./-][^\W_]+)*")
_BREAK = re.compile(r"\n\s*\n|[.!?;]\s+(?=[A-ZÀ-Þ])")


class Vocabulary:
    """The announcing words of one entity: whole words, beginnings of words (starred in the
    data), and words of scripts that put no spaces between words."""

    def __init__(self, words: Iterable[str]) -> None:
        folded = [word.casefold() for word in words]
        self._unspaced = tuple(word for word in folded if _is_unspaced(word))
        self._beginnings = tuple(word[:-1] for word in folded if word.endswith("*"))
        self._whole = frozenset(word for word in folded if not word.endswith("*"))

    def holds(self, phrase: str) -> bool:
        """Whether a phrase of one to four words announces."""
        if phrase in self._whole or phrase.removesuffix("s") in self._whole:
            return True
        if " " in phrase:
            return False
        return phrase.startswith(self._beginnings) or (
            "-" in phrase and self.holds(phrase.rpartition("-")[2])
        )

    def holds_exactly(self, phrase: str) -> bool:
        """Whether a phrase announces as it stands in the data: neither plural nor longer."""
        return phrase in self._whole or phrase in self._beginnings

    def is_within(self, text: str) -> bool:
        """Whether a text in a script without spaces holds an announcing word."""
        return any(word in text for word in self._unspaced)


def announces(entity: str, text: str, start: int, end: int) -> bool:
    """Whether a word for the entity stands beside text[start:end], with nothing but connecting
    words, marks and white space between."""
    vocabulary = vocabulary_of(entity)
    before, after = _before(text, start), _after(text, end)
    return (
        vocabulary.is_within(before[-12:] + after[:6])
        or _leads_to(vocabulary.holds, _phrases_back_from_end(before))
        or _leads_to(vocabulary.holds_exactly, _phrases_from_start(after))
    )


def is_near(entity: str, text: str, start: int, end: int) -> bool:
    """Whether a word for the entity stands near text[start:end], whatever else does."""
    return is_said(entity, _before(text, start)) or is_said(entity, _after(text, end))


def is_said(entity: str, text: str) -> bool:
    """Whether a text holds a word for the entity."""
    vocabulary = vocabulary_of(entity)
    return vocabulary.is_within(text) or any(
        vocabulary.holds(phrase) for phrases in _phrases_from_start(text) for phrase in phrases
    )


@cache
def vocabulary_of(entity: str) -> Vocabulary:
    """The announcing words of an entity; none for one that the data file does not name."""
    return Vocabulary(word for words in _data().get(entity, {}).values() for word in words)


@cache
def connectors() -> frozenset[str]:
    """Words that may stand between an announcing word and a value."""
    return frozenset(word.casefold() for words in _data()["connectors"].values() for word in words)


@cache
def _data() -> dict[str, dict[str, list[str]]]:
    text = resources.files(__package__).joinpath("announcing_words.yaml").read_text("utf-8")
    data: dict[str, dict[str, list[str]]] = yaml.safe_load(text)
    return data


def _before(text: str, start: int) -> str:
    """What stands before a value in its sentence or line, from a whole word on."""
    window = text[max(start - BEFORE, 0) : start]
    if start > BEFORE:
        window = re.sub(r"^[^\W_]+", "", window)
    return _BREAK.split(window)[-1]


def _after(text: str, end: int) -> str:
    return re.split(r"\n|[.!?;]\s", text[end : end + AFTER], maxsplit=1)[0]


def _words(text: str) -> list[str]:
    return [match[0].casefold().replace("\u2019", "'") for match in _TOKEN.finditer(text)]


def _phrases_from_start(text: str) -> Iterator[list[str]]:
    """For each word the phrases that start with it, the word itself first."""
    words = _words(text)
    for at in range(len(words)):
        yield [" ".join(words[at : at + length]) for length in range(1, LONGEST_PHRASE + 1)]


def _phrases_back_from_end(text: str) -> Iterator[list[str]]:
    """For each word, from the last to the first, the phrases that end with it."""
    words = _words(text)
    for end in range(len(words), 0, -1):
        starts = range(end - 1, max(end - LONGEST_PHRASE, 0) - 1, -1)
        yield [" ".join(words[start:end]) for start in starts]


def _leads_to(holds: Callable[[str], bool], groups: Iterable[list[str]]) -> bool:
    """Whether an announcing phrase comes before any word that is not a connector."""
    for skipped, phrases in enumerate(groups):
        if any(map(holds, phrases)):
            return True
        if skipped == MOST_CONNECTORS or phrases[0] not in connectors():
            return False
    return False


def _is_unspaced(word: str) -> bool:
    """Whether a word is of a script without letter case, most of which put no space (or other
    marks than letters) between words."""
    return all(c.lower() == c.upper() for c in word) and any(map(str.isalpha, word))
