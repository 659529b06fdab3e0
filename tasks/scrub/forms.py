"""The form of a finding: whoever made it, what it covers must look like what it is called.

`formed` trims punctuation and markup off both ends of a finding, widens one that ends inside a
word, and drops what does not have its entity's form: a telephone number has a telephone number's
digits, a date of birth is a date, a name has letters and is no identifier in code. `parts` first
cuts a finding where the structure of a table, list or JSON runs through it.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace

from data_contracts.findings import Finding
from tasks.scrub.recognizers import announcing
from tasks.scrub.recognizers.dates import is_birth_date
from tasks.scrub.recognizers.name_form import is_name, is_place, is_username
from tasks.scrub.recognizers.network_form import is_email, is_ip, is_mac, is_secret, is_url
from tasks.scrub.recognizers.number_form import is_card, is_iban, is_identifier_number
from tasks.scrub.recognizers.phone_form import is_phone

_STRUCTURE = re.compile(
    r"[ \t]*\|[ \t]*|\n\s*\n|\n[ \t]*(?:[#>*+|-]|\d+[.)])\s*|\"\s*[,:]\s*\"|\t+"
)
_OPENING = re.compile(
    r"\s+|</?[A-Za-z][\w-]{0,20}(?:\s[^<>\n]{0,80})?/?>|&(?:#?\w{1,8});|\\[nrt]|(?:[-*+>#]|\d{1,2}[.)])\s+",
    re.ASCII,
)
_CLOSING = re.compile(r"</?[A-Za-z][\w-]{0,20}(?:\s[^<>\n]{0,80})?/?>\Z|&#?\w{1,8};\Z")
_ABBREVIATION = re.compile(
    r"(?:\b[^\W\d_]|\b(?:Jr|Sr|St|Ste|Str|str|straße|Ave|Rd|Blvd|Dr|Ln|Ct|Sq|Hwy|Apt|Inc|Ltd|Co"
    r"|Corp|Bros|Mr|Mrs|Ms|Prof|Esq|Av|Avda|Pl|Bd|Bld|Mt|Ft|No|Nr|S\.A|S\.L|S\.p\.A|e\.V|Cía|Cia"
    r"|Lda|Ltda|B\.V|N\.V))\Z"
)
_PAIRS = {")": "(", "]": "[", "}": "{", ">": "<"}
_NAMES = frozenset({"PERSON", "ORGANIZATION", "LOCATION", "NRP"})
_WIDENED = _NAMES | {
    "USERNAME",
    "PHONE_NUMBER",
    "ID_NUMBER",
    "ACCOUNT_ID",
    "DEVICE_ID",
    "DATE_OF_BIRTH",
}
# Entities of which a value may begin or end with marks, beyond letters and digits.
_LEADING_MARKS = {
    "PHONE_NUMBER": "+(",
    "USERNAME": "@_",
    "URL": "",
    "EMAIL_ADDRESS": "_",
    "IP_ADDRESS": ":",
}
_FREE = frozenset({"SECRET"})

Check = Callable[[str, int, int], bool]


def parts(found: Finding, text: str) -> list[Finding]:
    """A finding in pieces, cut at cells of tables, list items, paragraphs and JSON strings."""
    if found.entity in _FREE:
        return [found]
    pieces, at = [], found.start
    for cut in _STRUCTURE.finditer(text, found.start, found.end):
        pieces.append(replace(found, start=at, end=cut.start()))
        at = cut.end()
    pieces.append(replace(found, start=at, end=found.end))
    return [piece for piece in pieces if piece.start < piece.end]


def formed(found: Finding, text: str) -> Finding | None:
    """The finding without marks around it; None where it has not the form of its entity.

    Args:
        found: by a pattern or the learned detector, in `text`.
        text: as it was searched.

    Returns:
        A finding inside `found`, or widened to the ends of the words that `found` cuts.
    """
    start, end = trimmed(found, text)
    if start >= end:
        return None
    if found.entity in _WIDENED:
        start, end = widened(text, start, end)
    check = _CHECKS.get(found.entity, _has_word)
    return replace(found, start=start, end=end) if check(text, start, end) else None


def trimmed(found: Finding, text: str) -> tuple[int, int]:
    """The ends of a finding without punctuation, brackets, quotes and markup."""
    start, end = found.start, found.end
    if found.entity in _FREE:
        return _trimmed_secret(text, start, end)
    leading = _LEADING_MARKS.get(found.entity, "")
    while start < end:
        opening = _OPENING.match(text, start, end)
        if opening and found.entity not in ("PHONE_NUMBER", "DATE_OF_BIRTH", "LOCATION"):
            start = opening.end()
        elif text[start].isalnum() or (text[start] in leading and _is_kept(text, start, end)):
            break
        else:
            start += 1
    while start < end:
        closing = _CLOSING.search(text, max(start, end - 80), end)
        if closing and text[end - 1] in ">;":
            end = closing.start()
        elif _ends_value(found.entity, text, start, end):
            break
        else:
            end -= 1
    return start, end


def _ends_value(entity: str, text: str, start: int, end: int) -> bool:
    """Whether the last character of a span belongs to its value: a letter, the dot of an
    abbreviation, a bracket that is opened inside, the slash of a URL."""
    last = text[end - 1]
    return (
        last.isalnum()
        or _is_combining(last)
        or (last == "." and _ABBREVIATION.search(text, max(start, end - 12), end - 1) is not None)
        or (last in _PAIRS and _is_closed_inside(text, start, end))
        or (last in "/_" and entity in ("URL", "USERNAME"))
    )


def widened(text: str, start: int, end: int) -> tuple[int, int]:
    """The ends moved outwards to the ends of the words they stand in.

    Only letters of scripts with letter case, digits and underscores are one word here: other
    scripts put no space between words, or write endings on names.
    """
    while start > 0 and _joins(text[start - 1]) and _joins(text[start]):
        start -= 1
    while end < len(text) and _joins(text[end]) and _joins(text[end - 1]):
        end += 1
    return start, end


def _trimmed_secret(text: str, start: int, end: int) -> tuple[int, int]:
    """A password may hold any mark: only quotes and white space around it go."""
    while start < end and text[start] in " \t\r\n\"'`":
        start += 1
    while start < end and text[end - 1] in " \t\r\n\"'`":
        end -= 1
    return start, end


def _joins(character: str) -> bool:
    return character == "_" or character.isdigit() or character.lower() != character.upper()


def _is_combining(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _is_kept(text: str, start: int, end: int) -> bool:
    """Whether a mark at the start belongs to the value: a plus before digits, a bracket that is
    closed before the end, a handle's at sign."""
    if text[start] == "(":
        closed = text.find(")", start, end)
        return start < closed < end - 1 and text[start + 1 : start + 2] in "+0123456789"
    if text[start] == "+":
        return re.match(r"\+ ?[(\d]", text[start : start + 3]) is not None
    return True


def _is_closed_inside(text: str, start: int, end: int) -> bool:
    """Whether the bracket that ends a span is opened after the span's first character."""
    opened = text.rfind(_PAIRS[text[end - 1]], start, end)
    return opened > start


def _is_birth_date(text: str, start: int, end: int) -> bool:
    announced = announcing.is_near("DATE_OF_BIRTH", text, start, end) or announcing.is_said(
        "DATE_OF_BIRTH", text[start:end]
    )
    return is_birth_date(text, start, end, announced=announced)


def _has_word(text: str, start: int, end: int) -> bool:
    return any(character.isalnum() for character in text[start:end])


def _numbered(entity: str, least_digits: int = 3) -> Check:
    return lambda text, start, end: is_identifier_number(text, start, end, entity, least_digits)


def _named(entity: str) -> Check:
    return lambda text, start, end: is_name(text, start, end, entity)


_CHECKS: dict[str, Check] = {
    "PHONE_NUMBER": is_phone,
    "DATE_OF_BIRTH": _is_birth_date,
    "PERSON": _named("PERSON"),
    "ORGANIZATION": _named("ORGANIZATION"),
    "NRP": _named("NRP"),
    "LOCATION": is_place,
    "USERNAME": is_username,
    "SECRET": is_secret,
    "URL": is_url,
    "EMAIL_ADDRESS": is_email,
    "IP_ADDRESS": is_ip,
    "MAC_ADDRESS": is_mac,
    "CREDIT_CARD": is_card,
    "IBAN_CODE": is_iban,
    "DEVICE_ID": _numbered("DEVICE_ID", 2),
    "ACCOUNT_ID": _numbered("ACCOUNT_ID"),
    **{
        entity: _numbered("ID_NUMBER")
        for entity in (
            "ID_NUMBER", "US_SSN", "US_ITIN", "US_PASSPORT", "US_DRIVER_LICENSE", "UK_NHS",
                "MEDICAL_LICENSE",
        )
    },
}  # fmt: skip
