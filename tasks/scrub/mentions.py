"""Further mentions of the names that were found in a conversation.

The detector relies on the words around a name, and misses names where those say little. So every
name that it found with confidence is searched for in the whole conversation: as a whole word, in
any case, in the possessive, and a part of a full name by itself. A name that is also a common word
("Mark", "May") is matched only with a capital within a sentence.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

from data_contracts.findings import Finding, merge
from data_contracts.policy import TAUGHT
from tasks.scrub.languages import stop_words

# Entities that are also mentioned by a part, and those mentioned only as a whole.
NAMES = ("PERSON",)
WHOLE = ("USERNAME", "EMAIL_ADDRESS", "PHONE_NUMBER", "ID_NUMBER", "ACCOUNT_ID", "SECRET")
# A value found once with a lower score is not searched for.
SURE = 0.8
LETTERS = 3
PART = re.compile(r"[^\W\d_](?:[^\W\d_]|['\u2019-](?=[^\W\d_]))*")
TITLES = frozenset(
    (
        "mr", "mrs", "ms", "miss", "dr", "prof", "sir", "madam", "junior", "senior", "the", "and",
        "herr", "frau", "mme", "mlle", "sra", "srta", "don", "doña", "dom", "dona", "señor",
        "señora", "senhor", "senhora", "sig", "signor", "signora", "dott", "dhr", "mevr", "mevrouw",
        "meneer", "van", "von", "der", "den", "del", "della", "dos", "das", "des", "los", "las",
    )
)  # fmt: skip
WORDS = "names_that_are_words.txt"


class Mentions:
    """Searches a conversation's texts for the values that were found in any of them.

    Args:
        found: (text, finding in it) for every finding in the conversation.
    """

    def __init__(self, found: Iterable[tuple[str, Finding]]) -> None:
        scores: dict[tuple[str, str], list[float]] = {}
        for text, one in found:
            for name in names_in(text, one):
                scores.setdefault((name.casefold(), one.entity), []).append(one.score)
        self._entities = {
            name: entity
            for (name, entity), all_scores in scores.items()
            if max(all_scores) >= SURE or len(all_scores) > 1
        }
        longest_first = sorted(self._entities, key=len, reverse=True)
        self._any = (
            re.compile(
                rf"(?<![\w@])(?:{'|'.join(map(re.escape, longest_first))})(?![\w@])", re.IGNORECASE
            )
            if longest_first
            else None
        )

    def added(self, text: str, found: Sequence[Finding]) -> list[Finding]:
        """The findings of a text with mentions among them, left to right, none overlapping."""
        if self._any is None:
            return list(found)
        more = [
            Finding(match.start(), match.end(), self._entities[match[0].casefold()], SURE)
            for match in self._any.finditer(text)
            if match[0].casefold() in self._entities
            and not any(one.overlaps(*match.span()) for one in found)
            and (match[0].casefold() not in names_that_are_words() or is_used_as_name(match))
        ]
        return merge([*found, *more]) if more else list(found)


def names_in(text: str, found: Finding) -> list[str]:
    """The strings by which a value is mentioned: the whole, and the parts of a person's name."""
    value = text[found.start : found.end]
    whole = " ".join(value.split())
    if found.entity in WHOLE:
        return [whole] if len(whole) >= LETTERS + 2 else []
    if found.entity not in NAMES:
        return []
    parts = [part for part in PART.findall(value) if is_name(part)]
    return parts if len(parts) < 2 else [whole, *parts]


def is_name(part: str) -> bool:
    return len(part) >= LETTERS and part.casefold() not in TITLES


def is_used_as_name(match: re.Match[str]) -> bool:
    """Whether a word is written as a name is: with a capital, amid a sentence."""
    if not match[0][:1].isupper() or match[0].isupper():
        return False
    before = match.string[: match.start()].rstrip(" \t\"'(*:-")
    return bool(before) and before[-1] not in ".!?\n:;\u2026"


@cache
def names_that_are_words() -> frozenset[str]:
    """First and last names that are words of the seven languages as well."""
    text = resources.files(__package__).joinpath(WORDS).read_text(encoding="utf-8")
    listed = {
        word for line in text.splitlines() if not line.startswith("#") for word in line.split()
    }
    return frozenset(listed.union(*(stop_words(code) for code in TAUGHT)))
