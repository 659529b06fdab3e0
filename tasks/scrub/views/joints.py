"""Whether what ends one part of a text and what begins the next are one number or address.

The parts are the lines of a message, or consecutive messages of one speaker. A number is joined
only where neither part is one alone: two telephone numbers under one another stay two.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import phonenumbers

from data_contracts import checksums
from tasks.scrub.recognizers.money import IBAN_LENGTHS
from tasks.scrub.recognizers.network import TLDS

# How much of the end of one part and of the beginning of the next is looked at.
REACH = 80

_DIGIT = re.compile(r"\d")
_GROUPS = r"\d(?:[ ().\u2013-]{0,2}\d){0,33}"
_CARD = re.compile(
    r"card|karte|carte|tarjeta|carta|cart\u00e3o|kaart|visa|master|amex|american express|maestro",
    re.IGNORECASE,
)
_LEAD = r"[\s>.\u2026]{0,10}(?:(?:and|then|und|dann|et|puis|y|luego|e|poi|depois|en|dan) ){0,2}"
_END = re.compile(rf"(?<![\w.])(?P<value>\+?\(?{_GROUPS}\)?-?)[\s,.\u2026-]{{0,10}}$")
_BEGINNING = re.compile(rf"{_LEAD}(?P<value>-?\(?{_GROUPS})(?![^\W_]|[.,:]\d)")
_ALONE = re.compile(rf"{_LEAD}(?P<value>{_GROUPS}-?)[\s,.\u2026-]{{0,10}}")
_IBAN_END = re.compile(
    r"(?<!\w)(?P<value>[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]){0,28}-?)[\s,.\u2026-]{0,10}$"
)
_IBAN_BEGINNING = re.compile(rf"{_LEAD}(?P<value>[A-Za-z0-9]+(?:[ -]?[A-Z0-9]+){{0,14}})(?!\w)")
# The beginnings of lists, dates, hours and tables are no end of a number.
_ITEM = re.compile(
    r"\s*(?:\d{1,3}[.)](?:\s|$)|\d{1,4}[./-]\d\d?[./-]\d|\d\d?:\d\d|[\d.]+ ?[,;|\t] ?[\d\"']"
    r"|[\d.-]+(?:\t| {3})\s*\S)"
)
_CELL = re.compile(r"(?:[\d\"'] ?[,;|\t] ?|\S(?:\t| {3}))[\d. -]+$")
_CUT_ADDRESS = re.compile(
    r"(?<![\w.+-])(?P<value>[\w.+-]{1,64}(?:(?P<at>@)(?:[\w-]{1,63}\.){0,4}(?P<label>[\w-]{0,63}))?)"
    r"\s{0,10}$"
)
_REST = re.compile(rf"\s{{0,10}}(?P<value>(?:[a-z0-9-]{{1,63}}\.){{1,4}}(?:{TLDS}))(?![\w-])", re.I)
_LAST = re.compile(rf"\s{{0,10}}(?P<value>(?:(?:co|com|org|ac)\.)?(?:{TLDS}))(?![\w-]|\.\w)")
_DOT_LAST = re.compile(r"\s{0,10}(?P<value>(?:\.[a-z0-9-]{1,63}){1,4})(?![\w@-])", re.I)
_AT_REST = re.compile(
    r"\s{0,10}(?P<value>@(?:[\w-]{1,63}\.){1,5}"
    rf"(?:{TLDS}))(?![\w-]|\.\w)",
    re.I,
)
_COMPLETE = re.compile(rf"(?:{TLDS})", re.I)


# What a telephone number has and a mere amount or year has not.
_GROUPED = re.compile(r"\d[ ().-]+\d|^[+0(]|[-)]$|^-|\d{5}")


@dataclass(frozen=True)
class Part:
    """Characters [start, end) of the part of a text with this index."""

    index: int
    start: int
    end: int


def joints(parts: Sequence[str], *, rows: bool) -> list[list[Part]]:
    """The values that go over two or more consecutive parts, each as its pieces.

    Args:
        parts: what follows one another.
        rows: the parts are lines, which may be rows of a table of figures.
    """
    found: list[list[Part]] = []
    index = 0
    while index < len(parts) - 1:
        end, beginning = parts[index][-REACH:], parts[index + 1][:REACH]
        value = None
        if _DIGIT.search(end) and _DIGIT.search(beginning):
            value = _number(parts, index, rows=rows)
        if value is None and ("@" in end or "@" in beginning):
            value = _address(parts, index)
        if value:
            found.append(value)
            index = value[-1].index
        else:
            index += 1
    return found


def _number(parts: Sequence[str], index: int, *, rows: bool) -> list[Part] | None:
    """A number that begins in parts[index]: as many parts as make one, at most twelve."""
    if index and _ALONE.fullmatch(parts[index - 1][:REACH]):
        return None  # within a column of figures, which was looked at from its top
    first = parts[index]
    offset = max(len(first) - REACH, 0)
    tail = first[offset:].rstrip()
    if not tail or not (tail[-1].isalnum() or tail[-1] in ")-.,\u2026"):
        return None
    is_iban = False
    end = _END.search(tail)
    if end is None or _IBAN_END.search(tail):
        end, is_iban = _IBAN_END.search(tail) or end, True
    if end is None or _CELL.search(tail):
        return None
    pieces = [Part(index, offset + end.start("value"), offset + end.end("value"))]
    values = [end["value"]]
    for after in range(index + 1, min(index + 12, len(parts))):
        head = parts[after][:REACH]
        beginning = (_IBAN_BEGINNING if is_iban else _BEGINNING).match(head)
        if beginning is None or _ITEM.match(head):
            return None
        pieces.append(Part(after, *beginning.span("value")))
        values.append(beginning["value"])
        alone = rows and not any(map(str.isalpha, "".join(parts[index : after + 1])))
        said = alone and _CARD.search("".join(parts[max(index - 2, 0) : index])[-REACH:])
        if is_one(values, table=alone and not said) and not _goes_on(parts, after, is_iban=is_iban):
            return pieces
        if len(parts[after]) > REACH or not (is_iban or _ALONE.fullmatch(head)):
            return None
    return None


def _goes_on(parts: Sequence[str], index: int, *, is_iban: bool) -> bool:
    """Whether more of the same column of figures follows."""
    if is_iban or index + 1 == len(parts) or not _ALONE.fullmatch(parts[index][:REACH]):
        return False
    return _ALONE.fullmatch(parts[index + 1][:REACH]) is not None


def is_one(values: Sequence[str], *, table: bool) -> bool:
    """Whether the pieces make a card, an IBAN, or a telephone or other number together.

    Args:
        table: the pieces may be figures of a table, so that only those that no table has, the
            halves of a card or of a telephone number, are one.
    """
    whole = "".join(filter(str.isalnum, "".join(values)))
    if not whole.isdigit():
        is_whole = len(whole) == IBAN_LENGTHS.get(whole[:2].upper()) and whole.isascii()
        return is_whole and checksums.iban(whole)
    if _is_card(values, whole):
        return not table or (len(values) == 2 and all(" " in value for value in values))
    signs = r"[(+-]" if table else _GROUPED
    if not 7 <= len(whole) <= 15 or not any(re.search(signs, value) for value in values):
        return False
    if table and len(values) > 2:
        return False
    if values[0].startswith("+"):
        return _is_phone(f"+{whole}") and not _is_phone(values[0])
    return max(sum(map(str.isdigit, value)) for value in values) < 7


def _is_card(values: Sequence[str], whole: str) -> bool:
    """Whether a card's number (ISO/IEC 7812) is grouped as cards are, or not, but for the cuts."""
    if not 13 <= len(whole) <= 19 or whole[0] not in "23456" or not checksums.luhn(whole):
        return False
    ends, place = set(), 0
    for value in values:
        *groups, last = re.findall(r"\d+", value)
        for group in groups:
            place += len(group)
            ends.add(place)
        place += len(last)
    allowed = {4, 10} if len(whole) == 15 else {4, 8, 12, 16}
    return ends <= allowed and not re.search(r"[^\d -]", "".join(values))


def _is_phone(number: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False


def _address(parts: Sequence[str], index: int) -> list[Part] | None:
    """An e-mail address cut at its @ or at a dot after it."""
    first, head = parts[index], parts[index + 1][:REACH]
    offset = max(len(first) - REACH, 0)
    cut = _CUT_ADDRESS.search(first[offset:])
    if cut is None:
        return None
    if not cut["at"]:
        rest = _AT_REST.match(head)
    elif cut["label"]:
        rest = None if _is_complete(cut["value"]) else _DOT_LAST.match(head)
    elif cut["value"].endswith("@"):
        rest = _REST.match(head)
    else:
        rest = None if _is_complete(cut["value"].rstrip(".")) else _LAST.match(head)
    if rest is None:
        return None
    before = Part(index, offset + cut.start("value"), offset + cut.end("value"))
    return [before, Part(index + 1, *rest.span("value"))]


def _is_complete(address: str) -> bool:
    labels = address.rpartition("@")[2].split(".")
    return len(labels) > 1 and _COMPLETE.fullmatch(labels[-1]) is not None
