"""Readings of a text in which hidden forms are plain, with the way back to the original.

`view` is the reading that everything searches. `hidden` gives further readings, for the
recognisers of forms only, of texts with something hidden; nearly no ordinary text has one. A view
only offers a text. Whoever searches it should take

- from `encoded` views every entity;
- from `spelled` and `split` views only what `reveals` is true of, and of it only entities with
  check digits or a strong form: CREDIT_CARD, IBAN_CODE, EMAIL_ADDRESS, US_SSN, US_ITIN, numbers
  of a state with check digits, and PHONE_NUMBER where it fits a numbering plan or a word beside
  it says so. Seven digits one by one are seldom a measurement, but may be one.

`tasks.scrub.across` does the same over consecutive messages.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable

from tasks.scrub.views import packed, spelled, split
from tasks.scrub.views.base import Edit, Kind, View
from tasks.scrub.views.digits import single_digits
from tasks.scrub.views.encoded import DECODERS
from tasks.scrub.views.gate import is_ordinary
from tasks.scrub.views.ordinary import view

__all__ = ["View", "hidden", "view"]

_Reader = Callable[[str], Iterable[Edit]]
_ENCODED: tuple[_Reader, ...] = (*DECODERS, packed.runs)
_SPLIT: tuple[_Reader, ...] = (split.markup, single_digits, split.broken_lines)
_SPELLED: tuple[_Reader, ...] = (
    spelled.numbers,
    spelled.addresses,
    spelled.joined_addresses,
)

# A code within a code is decoded; what is coded three times is not read by its receiver either.
_DEPTH = 2

# What personal data looks like, roughly: without it in what a reading changed, it is not offered.
_SIGN = re.compile(
    r"[\w.+%&~'-](?<![\w.+%&~'-].)[\w.+%&~'-]{0,63}+@[\w.-]{1,80}|\+?\d(?:[^\w\n=<>*\u00d7\u00f7^|;\"']{0,3}\d){6,40}|\d{1,3}(?:\.\d{1,3}){3}"
    r"|[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]){11,30}"
)
_SECRET = re.compile(r"(?:pass|pwd|secret|token|key)\w{0,12}\W{1,4}\S{1,60}", re.IGNORECASE)


def hidden(original: str) -> list[View]:
    """Further readings of a text: decoded, put together, spelled; mostly there are none."""
    if is_ordinary(original):
        return []
    plain = view(original)
    decoded = plain
    for _ in range(_DEPTH):
        decoded = _read(decoded, _ENCODED, "encoded")
    joined = _read(decoded, _SPLIT, "split")
    said = _read(decoded, _SPELLED, "spelled")
    offered = []
    if decoded is not plain and _shows(decoded, plain, (_SIGN, _SECRET)):
        offered.append(decoded)
    offered += [
        further
        for further in (joined, said)
        if further is not decoded and _shows(further, decoded, (_SIGN,))
    ]
    return offered


def _read(seen: View, readers: Iterable[_Reader], kind: Kind) -> View:
    for reader in readers:
        edits = list(reader(seen.text))
        if edits:
            seen = seen.rewritten(edits, kind)
    return seen


def _shows(further: View, before: View, signs: Iterable[re.Pattern[str]]) -> bool:
    """Whether a reading has a sign of personal data that the one before it has not."""
    for sign in signs:
        matches = list(sign.finditer(further.text))
        more = Counter(match[0] for match in matches) - Counter(sign.findall(before.text))
        if more and any(further.reveals(*match.span()) or match[0] in more for match in matches):
            return True
    return False
