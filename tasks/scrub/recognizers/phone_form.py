"""Whether a number that was found is a telephone number: what it looks like and what stands around.

A number of a region's numbering plan counts by itself where it is written as one: with a country's
code, a trunk prefix, or in the groups of its region. Any other counts where a word announces it.
"""

import re

from tasks.scrub.recognizers import announcing
from tasks.scrub.recognizers.numbering import (
    EXTENSION,
    is_grouped_as_national,
    is_in_brackets,
    is_international,
    is_national,
)
from tasks.scrub.recognizers.surroundings import (
    is_among_numbers,
    is_amount,
    is_in_formula,
    is_part_of_token,
    is_timestamp,
)

_YEAR = r"(?:19|20)\d\d"
_CHARACTERS = re.compile(r"[\d\s()+./\\\-\u2010-\u2015\u2212\u00b7\u30fb_*|,]+")
_NEVER = re.compile(
    rf"{_YEAR}\s?[-\u2013/]\s?{_YEAR}"  # years
    rf"|{_YEAR}([-./ ])[01]?\d\1[0-3]?\d(?:[T ].*)?|[0-3]?\d([-./ ])[0-3]?\d\2{_YEAR}(?:[T ].*)?"
    r"|[1-9]\d{0,2}(?:[ .,]\d{3})*(?:[ .,]000)+"  # round thousands
    r"|[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?"  # thousands
    r"|\(?[-+]?\d{1,3}\.\d{4,}\)?|\(?[-+]?\d+[.,]\d{1,2}\)?"  # decimals
    r"|(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}"  # IPv4
    r"|v?\d{1,2}(?:\.\d{1,3}){2,4}"  # versions
    r"|[0-2]?\d[.:][0-5]\d ?[-\u2013] ?[0-2]?\d[.:][0-5]\d"  # hours
    r"|97[89][ -]?\d[-\d ]{9,14}"  # ISBN-13
    r"|0x\w+",
    re.DOTALL,
)
_REFERENCE_BEFORE = re.compile(
    r"(?:ISBN|ISSN|EAN|DOI|doi|arXiv|RFC|ISO|CVE|SKU|PMID|Art\.?-Nr)[\s:.#-]{0,4}(?:1[03])?:?\s?\Z"
)
# T: and M: in signatures.
_LABEL_BEFORE = re.compile(r"(?:^|[\s|,;(\"'])[tTmMpPfF][.:]\s?\Z")
# Written as nothing but telephone numbers are, whether or not the area is given out.
_UNMISTAKABLE = re.compile(
    r"\(\d{3}\) ?\d{3}[-. ]\d{4}(?: ?x\d{1,6})?|(?:\+?1[-. ])?\d{3}[-.]\d{3}[-.]\d{4} ?x\d{1,6}"
    r"|001-\d{3}-\d{3}-\d{4}(?:x\d{1,6})?|\+\d{1,3}[ ()-]{1,2}\d[\d ()-]{5,16}\d"
)
_SPACED_OPERATOR = re.compile(r"\d\)? (?:[-+/*\u2212\u2013]|\.) \(?\d")
_DATE = re.compile(
    rf"(?<!\d){_YEAR}([-./])[01]?\d\1[0-3]?\d(?!\d)|(?<!\d)[0-3]?\d([-./])[0-3]?\d\2{_YEAR}(?!\d)"
)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:([ .\u00a0])\d{3})(?:\1\d{3})*")
LEAST, LEAST_DOTTED, LEAST_ANNOUNCED, MOST = 7, 6, 5, 15
TRUNK_RUN = (10, 11)  # digits of a number with a trunk prefix and without groups
_COUNTING = "0123456789" * 3 + "9876543210" * 2
DIGIT_NAMES = {
    name: str(digit)
    for digit, names in enumerate(
        (
            "zero oh null nul zéro cero", "one eins un une uno um een één",
                "two zwei zwo deux dos due dois twee",
            "three drei trois tres tre três drie", "four vier quatre cuatro quattro quatro",
            "five fünf cinq cinco cinque vijf", "six sechs seis sei zes",
            "seven sieben sept siete sette sete zeven", "eight acht huit ocho otto oito",
            "nine neun neuf nueve nove negen",
        )
    )
    for name in names.split()
}  # fmt: skip


def is_phone(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is a telephone number, by its form and by what stands around it."""
    value = in_digits(text[start:end])
    body = EXTENSION.sub("", value)
    digits = sum(map(str.isdigit, body))
    if not LEAST_ANNOUNCED <= digits <= MOST or not _CHARACTERS.fullmatch(body):
        return False
    announced = announcing.announces("PHONE_NUMBER", text, start, end) or bool(
        _LABEL_BEFORE.search(text[max(start - 6, 0) : start])
    )
    if _NEVER.fullmatch(body) and not (
        announced and digits >= LEAST_DOTTED and body.count(".") > 1
    ):
        return False
    if _REFERENCE_BEFORE.search(text[max(start - 16, 0) : start]) or _DATE.search(body):
        return False
    if is_amount(text, start, end):
        return False
    if announced:
        return True
    if value != text[start:end]:
        return announcing.announces("CALL", text, start, end)
    if digits < LEAST or is_timestamp(text, end):
        return False
    if is_part_of_token(text, start, end) or is_in_formula(text, start, end):
        return False
    return _is_of_a_plan(value, text, start, end)


def _is_of_a_plan(value: str, text: str, start: int, end: int) -> bool:
    """Whether a number that nothing announces for certain is one that some region gives out."""
    digits = re.sub(r"\D", "", value)
    if digits[:9] in _COUNTING or len(set(digits)) <= 2:
        return False
    if value.lstrip("(").startswith(("+", "00")) and is_international(value):
        return value.lstrip("(").startswith("+") or not is_among_numbers(text, start, end)
    if _UNMISTAKABLE.fullmatch(value):
        return True
    if _SPACED_OPERATOR.search(value) or "," in value or is_among_numbers(text, start, end):
        return False
    if announcing.announces("CALL", text, start, end):
        return is_national(value, anywhere=True) or _is_grouped(value)
    if announcing.is_near("PHONE_NUMBER", text, start, end) and _is_grouped(value):
        return is_national(value, anywhere=True)
    if value.lstrip("(").startswith("0"):
        return is_national(value) and (not value.isdigit() or len(value) in TRUNK_RUN)
    return _is_grouped(value) and (is_grouped_as_national(value) or is_in_brackets(value))


def _is_grouped(value: str) -> bool:
    """Whether digits stand in groups, and not in thousands."""
    return re.search(r"\d\D+\d", value) is not None and not _THOUSANDS.fullmatch(value)


def in_digits(value: str) -> str:
    """A number with the names of digits as digits; the value itself where it holds other words."""
    words = re.findall(r"[^\W\d_]+", value)
    if len(words) < LEAST or any(word.casefold() not in DIGIT_NAMES for word in words):
        return value
    return " ".join(DIGIT_NAMES[word.casefold()] for word in words)
