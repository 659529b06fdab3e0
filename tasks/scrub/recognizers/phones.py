"""Telephone numbers."""

import re

from presidio_analyzer import Pattern

from tasks.scrub.recognizers.base import DecidingRecognizer
from tasks.scrub.recognizers.phone_form import DIGIT_NAMES, is_phone

_BETWEEN = r"[ ()./\xa0\u00b7\u30fb\u2010-\u2015\u2212-]{0,4}"
# Groups of digits that may be of another number beside: the longest part that is a telephone
# number without them is taken.
MOST_DROPPED = 3


class AnyPhoneRecognizer(DecidingRecognizer):
    """Telephone numbers of every region's numbering plan, and what a word announces as one.

    A regular expression proposes what has 5 to 15 digits in groups; `phone_form.is_phone` decides.
    """

    ENTITY = "PHONE_NUMBER"
    SCORE = 0.85
    PATTERNS = (
        Pattern(
            "digits",
            r"(?:[(\d]|\+(?=[(\d]))(?<!\d\d)(?<![$€£¥]\d)(?<!\d[.,]\d)(?<![0x][xA-Fa-f]\d)(?<!\d[A-Fa-f]\d)"
            rf"\+?(?:{_BETWEEN}\d){{4,15}}"
            r"(?: ?(?:x|ext\.?|extension) ?\d{1,6})?(?!\d)",
            SCORE,
        ),
    )

    def decide(self, text: str, start: int, end: int) -> tuple[int, int] | None:
        return telephone_in(text, start, end)


class NamesOfDigits:
    """A gate: several words of a text are the names of digits. An expression with all of these
    names would be tried at every letter."""

    LEAST = 5

    def search(self, text: str, /) -> object | None:
        words = text.casefold().replace("-", " ").replace(",", " ").split()
        return sum(map(DIGIT_NAMES.__contains__, words)) >= self.LEAST or None


class SpelledPhoneRecognizer(AnyPhoneRecognizer):
    """Telephone numbers of which the digits are written as words, in seven languages."""

    _DIGIT = "|".join(sorted(DIGIT_NAMES, key=len, reverse=True))
    PATTERNS = (
        Pattern("words", rf"(?<!\w)(?:{_DIGIT})(?:[ ,-]{{1,2}}(?:{_DIGIT})(?!\w)){{6,14}}", 0.85),
    )
    gate = NamesOfDigits()


def telephone_in(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The telephone number in text[start:end]: all of it, or without some last or first groups."""
    groups = [match.span() for match in re.finditer(r"\d+", text[start:end])]
    whole = _without_marks(text, start, end)
    if is_phone(text, *whole):
        return whole
    for dropped in range(1, min(MOST_DROPPED, len(groups) - 1) + 1):
        shorter = _without_marks(text, start, start + groups[-dropped - 1][1])
        if is_phone(text, *shorter):
            return shorter
        later = start + groups[dropped][0]
        if text[later - 1] in "(+":
            later -= 1
        if is_phone(text, later, end):
            return later, end
    return None


def _without_marks(text: str, start: int, end: int) -> tuple[int, int]:
    """Without an opening bracket that nothing closes."""
    if text[start] == "(" and ")" not in text[start:end]:
        start += 1
    return start, end
