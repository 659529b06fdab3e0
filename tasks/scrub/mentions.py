"""Names that were found once, found again in the same conversation.

A detector goes by what is around a name, and misses it where that says little. What it found for
sure is therefore looked for everywhere: as a whole word, in any case, with whatever ending of
possession, and a part of a full name alone. A name that is a common word as well ("Mark", "May")
is one again only where it is written with a capital and begins no sentence.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

from data_contracts.findings import Finding, merge

# Entities of which a part stands for the whole, and those of which it does not.
NAMES = ("PERSON",)
WHOLE = ("USERNAME", "EMAIL_ADDRESS", "PHONE_NUMBER", "ID_NUMBER", "ACCOUNT_ID", "SECRET")
# Below this, one finding is not enough to believe it elsewhere.
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
    """What of a conversation's findings is looked for in all of its texts.

    Args:
        found: (its text, its finding) of everything that was found in the conversation.
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
            and not any(one.start < match.end() and match.start() < one.end for one in found)
            and (match[0].casefold() not in names_that_are_words() or is_used_as_name(match))
        ]
        return merge([*found, *more]) if more else list(found)


def names_in(text: str, found: Finding) -> list[str]:
    """What a finding is mentioned by: itself, and the parts of a person's name."""
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
    from data_contracts.policy import TAUGHT
    from tasks.scrub.languages import common_words

    text = resources.files(__package__).joinpath(WORDS).read_text(encoding="utf-8")
    listed = {
        word for line in text.splitlines() if not line.startswith("#") for word in line.split()
    }
    return frozenset(listed.union(*(common_words(code) for code in TAUGHT)))
