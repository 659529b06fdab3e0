"""Messages of real conversations: those that name nobody, and those whose names are exchanged."""

import re
from collections import Counter
from functools import cache

from data_contracts.findings import Finding, LabelledText
from tasks.scrub.synthetic.values import Values, is_for_audits, names_and_places
from tasks.scrub.synthetic.words import MONTHS, NATIONALITIES, WEEKDAYS
from tasks.sources import chitchat_rows

# Conversations whose number ends in one of these are never trained on, but measured with.
MEASURED_WITH = ("0", "1", "2")
# A listed name that is written small this often, and mostly, is a common word.
COMMON = 40
MOST_WORDS = 3
WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
ALWAYS_CAPITAL = {
    "i",
    "i'm",
    "i'll",
    "i've",
    "i'd",
    "ok",
    "lol",
    "tv",
    *map(str.casefold, MONTHS["en"]),
}
ALWAYS_CAPITAL |= {name.casefold() for name in (*WEEKDAYS["en"], *NATIONALITIES, "English")}
ORGANIZATIONS = (
    "BYU", "Google", "Facebook", "Netflix", "Disney", "Amazon", "Walmart", "Costco", "Microsoft",
    "Harvard", "NASA", "Starbucks", "McDonalds", "Chipotle", "Ikea", "Nintendo", "Marvel", "Pixar",
    "YouTube", "Twitter", "Instagram", "Reddit", "Hulu", "Sony", "Toyota", "Tesla", "Intel", "IBM",
    "Wendy's", "Domino's", "Samsung", "MIT", "UCLA", "NFL", "NBA", "FBI", "CIA",
)  # fmt: skip
SLOTS = {
    "PERSON": ("first_name", "first_name", "first_name", "name", "last_name"),
    "LOCATION": ("city", "city", "country", "country", "place"),
    "ORGANIZATION": ("organization",),
}


def exchanged(message: LabelledText, values: Values) -> LabelledText:
    """The message with others in the place of those it names, written as those were."""
    values.country()
    text, labels, at = "", [], 0
    for label in message.labels:
        text += message.text[at : label.start]
        name = message.text[label.start : label.end]
        if values.draw.random() < 0.75 or is_for_audits(name):
            other = values.value(values.draw.choice(SLOTS[label.entity])).replace("\n", " ")
            name = other.lower() if name.islower() else other
        labels.append(Finding(len(text), len(text) + len(name), label.entity))
        text += name
        at = label.end
    return LabelledText(text + message.text[at:], labels)


@cache
def nobodys_messages() -> list[str]:
    """Real messages that name nobody and no place: no word that is a name, and no capital amid a
    sentence that is not always there."""
    return [text for text, found in _messages() if found is not None and not found]


@cache
def somebodys_messages() -> list[LabelledText]:
    """Real messages with labels on the names and places in them, all of which are listed ones."""
    return [LabelledText(text, found) for text, found in _messages() if found]


@cache
def _messages() -> list[tuple[str, list[Finding] | None]]:
    """Each message, and the listed names in it; None if it may hold others."""
    texts = [
        message["content"]
        for number, row in enumerate(chitchat_rows())
        if not str(number).endswith(MEASURED_WITH)
        for message in row["messages"]
    ]
    small, capital = Counter[str](), Counter[str]()
    for text in texts:
        for word in WORD.finditer(text):
            if word[0].islower():
                small[word[0]] += 1
            elif not _starts_sentence(text, word.start()):
                capital[word[0].casefold()] += 1
    listed = {
        name: entity
        for name, entity in names_and_places().items()
        if name not in ALWAYS_CAPITAL and (small[name] < COMMON or capital[name] > small[name] / 2)
    }
    listed |= {name.casefold(): "ORGANIZATION" for name in ORGANIZATIONS}
    proper = {
        name: entity
        for name, entity in listed.items()
        if " " in name or capital[name] > small[name] / 2
    }
    return [(text, _named(text, proper, listed)) for text in texts]


def _named(text: str, proper: dict[str, str], listed: dict[str, str]) -> list[Finding] | None:
    words = list(WORD.finditer(text))
    found: list[Finding] = []
    for number, word in enumerate(words):
        if found and word.start() < found[-1].end:
            continue
        for last in reversed(words[number : number + MOST_WORDS]):
            name = text[word.start() : last.end()].casefold()
            if name in proper:
                found.append(Finding(word.start(), last.end(), proper[name]))
                break
    inside = {at for one in found for at in range(one.start, one.end)}
    for word in words:
        if word.start() in inside:
            continue
        plain = word[0].casefold().removesuffix("'s")
        if plain in listed:
            return None
        capital = word[0][0].isupper() and not _starts_sentence(text, word.start())
        if capital and plain not in ALWAYS_CAPITAL:
            return None
    return _side_by_side_joined(found, text)


def _side_by_side_joined(found: list[Finding], text: str) -> list[Finding]:
    """First and last name are one."""
    joined: list[Finding] = []
    for one in found:
        before = joined[-1] if joined else None
        if (
            before is not None
            and before.entity == one.entity == "PERSON"
            and text[before.end : one.start] == " "
        ):
            joined[-1] = Finding(before.start, one.end, one.entity)
        else:
            joined.append(one)
    return joined


def _starts_sentence(text: str, at: int) -> bool:
    before = text[:at].rstrip(" \"'(*:)")
    return not before or before[-1] in ".!?\n"
