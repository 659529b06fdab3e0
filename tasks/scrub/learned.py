"""What the learned detector finds, put together into values and held against their forms.

The detector speaks of words, and of each for itself: a number may come in pieces of several
entities, and a user name with the word that announces it. And it has read what is around a value,
which no form has: where it is sure, a number needs no word beside it, if a number of its kind may
stand there at all.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from data_contracts.findings import Finding
from tasks.scrub.forms import formed, parts, trimmed
from tasks.scrub.recognizers.name_form import common_words
from tasks.scrub.recognizers.surroundings import (
    holds_operator,
    is_among_numbers,
    is_amount,
    is_code,
    is_in_column,
    is_in_formula,
    is_part_of_token,
    is_timestamp,
)
from tasks.text import WORD

NUMBERS = frozenset({"ID_NUMBER", "PHONE_NUMBER", "DATE_OF_BIRTH"})
NAMES = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "USERNAME"})
# From this score on the detector needs no word that announces a value.
SURE = 0.85
SURE_OF_WORD = 0.93
LEAST_DIGITS = 6
JOINT = re.compile(r"[ .\-/_#']?")
SHORT = 3
# What joins the words of a handle.
HANDLE_MARKS = ("", ".", "_", "-")
HANDLE = re.compile(r"@?[^\W_]+(?:[._-][^\W_]+)+")
# What an address or a company's name begins with, which the detector may leave out.
LEADS = {
    "LOCATION": re.compile(
        r"(?<!\w)(?:apt|apartment|suite|ste|unit|flat|floor|room|bldg|building|p\.? ?o\.? box"
        r"|box|lot|(?:the )?corner of|etage|piso|apto|apartado|postfach|casella postale)[.:]? ?\Z",
        re.IGNORECASE,
    ),
    "ORGANIZATION": re.compile(r"(?<!\w)(?:The|Die|Der|Das|La|Le|Les|El|Los|Las|Il|De|Het) \Z"),
}
LONGEST_LEAD = 18
# A field of JSON, SQL, YAML or an assignment before a value: its name says what the value is.
FIELD = re.compile(r"(?:[\"']\s{0,2}:|=|^[ \t-]*[a-z][\w.-]{0,40}:)\s{0,4}[\"']?\Z", re.MULTILINE)
CAMEL = re.compile(r"[A-Z]?[a-z]+(?:[A-Z][a-z]+)+|[A-Z]+(?:[_-][A-Z0-9]+)+")
POSTCODE = re.compile(r"\d{3,8}(?:-\d{3,4})?")
BESIDE_PLACE = re.compile(r"[ ,\n(]{1,3}")
TOKEN = re.compile(r"\S+")
# A cell of a line: no number goes on behind a tab or several spaces.
ROW = re.compile(r"[^\s](?:[^\n\t ]| (?! ))*")
NOT_NUMBERS = re.compile(
    r"v?\d+(?:\.\d+){1,4}|(?:19|20)\d\d[-./]\d\d?[-./]\d\d?|\d\d?:\d\d(?::\d\d)?|[\d,]+\.\d{1,2}"
    r"|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d*0{3,}|(?=\d*[a-f])[0-9a-f]{7,}"
)
CODE = re.compile(r"[(){};=<>\[\]]|\w\.\w+\.|::")


def values(found: Sequence[Finding], text: str) -> Iterator[Finding]:
    """The values that a text's findings make up, each in the form of its entity.

    Args:
        found: the detector's, left to right.
        text: as it was searched.
    """
    runs = list(_runs(found, text))
    places = [one for run in runs for one in run if one.entity == "LOCATION"]
    for run in runs:
        for whole in _pieces(_joined(run), text):
            others = [one.entity for one in run]
            if HANDLE.fullmatch(text, whole.start, whole.end):
                others.append("USERNAME")
            if (value := _in_form(whole, others, text)) is not None:
                yield _with_lead(value, text)
            elif _is_postcode(whole, places, text):
                start, end = trimmed(whole, text)
                yield replace(whole, start=start, end=end, entity="LOCATION")


def _runs(found: Sequence[Finding], text: str) -> Iterator[list[Finding]]:
    """Findings that are pieces of one value, together."""
    run: list[Finding] = []
    for one in found:
        if run and not _is_next(run[-1], one, text):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _is_next(before: Finding, after: Finding, text: str) -> bool:
    gap = text[before.end : after.start]
    if not JOINT.fullmatch(gap):
        return False
    pieces = text[before.start : before.end], text[after.start : after.end]
    if not all(any(map(str.isalnum, piece)) for piece in pieces):
        return not gap or before.entity == after.entity
    if {before.entity, after.entity} <= NUMBERS:
        return all(any(map(str.isdigit, piece)) for piece in pieces)
    if {before.entity, after.entity} <= NAMES:
        return gap in HANDLE_MARKS or (gap == " " and any(_is_small(piece) for piece in pieces))
    return not gap


def _is_small(piece: str) -> bool:
    return len(piece) <= SHORT or piece.islower()


def _joined(run: Sequence[Finding]) -> Finding:
    """One finding over a run, of the entity that most of its characters are of."""
    characters = Counter[str]()
    for one in run:
        characters[one.entity] += one.end - one.start
    score = sum(one.score * (one.end - one.start) for one in run) / characters.total()
    return Finding(run[0].start, run[-1].end, characters.most_common(1)[0][0], score)


def _pieces(found: Finding, text: str) -> Iterator[Finding]:
    """A finding cut where it cannot be one value."""
    for part in parts(found, text):
        if found.entity in NUMBERS or found.entity == "SECRET":
            for row in ROW.finditer(text, part.start, part.end):
                yield replace(part, start=row.start(), end=row.end())
            continue
        if found.entity != "USERNAME":
            yield part
            continue
        tokens = list(TOKEN.finditer(text, part.start, part.end))
        named = [one for one in tokens if len(tokens) == 1 or not _is_plain(one[0])]
        for token in named or tokens:
            yield replace(part, start=token.start(), end=token.end())


def _is_plain(token: str) -> bool:
    """Whether a token is written as a word of a sentence."""
    return token.strip(".,:;!?").isascii() and token.strip(".,:;!?").isalpha() and token.islower()


def _with_lead(value: Finding, text: str) -> Finding:
    """The value with the words before it that are a part of it."""
    lead = LEADS.get(value.entity)
    before = text[max(value.start - LONGEST_LEAD, 0) : value.start]
    if lead is None or (match := lead.search(before)) is None:
        return value
    return replace(value, start=value.start - len(before) + match.start())


def _in_form(found: Finding, others: Iterable[str], text: str) -> Finding | None:
    start, end = trimmed(found, text)
    if found.entity in ("USERNAME", "SECRET") and CAMEL.fullmatch(text, start, end):
        return None  # an identifier, or the code of an error
    if found.entity == "SECRET" and not any(map(str.isdigit, text[start:end])):
        return None  # what a password is called by is found by patterns
    for entity in dict.fromkeys((found.entity, *others)):
        if (value := formed(replace(found, entity=entity), text)) is not None:
            return value
    if start < end and found.score >= SURE and _may_be(found, text, start, end):
        entity = "USERNAME" if "_" in text[start:end] and found.entity in NAMES else found.entity
        return replace(found, start=start, end=end, entity=entity)
    return None


def _may_be(found: Finding, text: str, start: int, end: int) -> bool:
    """Whether a value that nothing announces may be what a sure detector says that it is."""
    value = text[start:end]
    if found.entity in ("ID_NUMBER", "PHONE_NUMBER"):
        return (
            sum(map(str.isdigit, value)) >= LEAST_DIGITS
            and "\n" not in value
            and not FIELD.search(text[max(start - 48, 0) : start])
            and not NOT_NUMBERS.fullmatch(value)
            and not is_in_formula(text, start, end)
            and not is_amount(text, start, end)
            and not holds_operator(value)
            and not is_among_numbers(text, start, end)
            and not (value.isdigit() and is_in_column(text, start, end))
            and not is_timestamp(text, end)
            and not is_part_of_token(text, start, end)
            and not is_code(text, start, end)
        )
    if "_" in value and found.entity in NAMES:
        line = text[text.rfind("\n", 0, start) + 1 : start] + text[end:].partition("\n")[0]
        return not CODE.search(line) and not re.match(r"[\w(./\\-]", text[end : end + 1])
    if found.entity == "PERSON" and found.score >= SURE_OF_WORD:
        words = [word.casefold() for word in WORD.findall(value)]
        return len(words) == 1 and common_words().get(words[0]) is True
    return False


def _is_postcode(found: Finding, places: Sequence[Finding], text: str) -> bool:
    """Whether a number stands beside a place that was found."""
    start, end = trimmed(found, text)
    if found.entity not in NUMBERS or not POSTCODE.fullmatch(text, start, end):
        return False
    return any(
        BESIDE_PLACE.fullmatch(text, end, one.start) or BESIDE_PLACE.fullmatch(text, one.end, start)
        for one in places
    )
