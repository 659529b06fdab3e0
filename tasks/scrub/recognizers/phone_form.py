"""Whether a number that was found is a telephone number: what it looks like and what stands around.

A number of a region's numbering plan counts by itself where it is written as one: with a country's
code, a trunk prefix, or in the groups of its region. Any other counts where a word announces it.
"""

import re

from tasks.scrub.recognizers import announcing
from tasks.scrub.recognizers.numbering import (
    EXTENSION,
    is_grouped_as_national,
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
_ISBN = re.compile(
    r"(?:ISBN|ISSN|EAN|DOI|doi|arXiv|RFC|ISO|CVE|SKU|PMID|Art\.?-Nr)[\s:.#-]{0,4}(?:1[03])?:?\s?$"
)
_SPACED_OPERATOR = re.compile(r"\d\)? (?:[-+/*\u2212\u2013]|\.) \(?\d")
_DATE = re.compile(
    rf"(?<!\d){_YEAR}([-./])[01]?\d\1[0-3]?\d(?!\d)|(?<!\d)[0-3]?\d([-./])[0-3]?\d\2{_YEAR}(?!\d)"
)
LEAST, LEAST_ANNOUNCED, MOST = 7, 5, 15


def is_phone(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is a telephone number, by its form and by what stands around it."""
    value = text[start:end]
    body = EXTENSION.sub("", value)
    digits = sum(map(str.isdigit, body))
    if not LEAST_ANNOUNCED <= digits <= MOST or not _CHARACTERS.fullmatch(body):
        return False
    announced = announcing.announces("PHONE_NUMBER", text, start, end)
    before = text[max(start - 16, 0) : start]
    if _NEVER.fullmatch(body) and not (announced and "." in body and digits >= LEAST):
        return False
    if _ISBN.search(before) or _DATE.search(body):
        return False
    if announced:
        return digits >= LEAST_ANNOUNCED and not is_amount(text, start, end)
    if digits < LEAST or is_amount(text, start, end) or is_timestamp(text, start, end):
        return False
    if is_part_of_token(text, start, end) or is_in_formula(text, start, end):
        return False
    if body.startswith("+"):
        return is_international(value)
    if _SPACED_OPERATOR.search(body) or "," in body or is_among_numbers(text, start, end):
        return False
    if announcing.is_near("PHONE_NUMBER", text, start, end):
        return is_national(value, anywhere=True) or is_international_00(value)
    return looks_national(value) or is_international_00(value)


def looks_national(value: str) -> bool:
    """Whether a number is a region's, and written as nothing but a telephone number is.

    That is: in groups or with a trunk prefix, of which a number of another kind has neither.
    """
    is_one_run = value.isdigit()
    if value.lstrip("(").startswith("0"):
        return is_national(value) and (not is_one_run or len(value) >= 10)
    if is_one_run:
        return is_national(value)
    return is_grouped_as_national(value)


def is_international_00(value: str) -> bool:
    """Whether a number begins with 00 and a country's code."""
    return value.lstrip("(").startswith("00") and is_international(value)
