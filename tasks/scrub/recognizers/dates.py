"""Whether a text is a date on which somebody may have been born."""

import re
from datetime import date

from tasks.scrub.recognizers.surroundings import is_timestamp

_MONTHS = {
    beginning: number
    for number, beginnings in enumerate(
        (
            "jan jän gen ene", "feb fév fev", "mar mär mrt maa", "apr abr avr",
                "may mai mei mag maj",
            "jun juin giu", "jul juil lug", "aug ago aoû aou", "sep set", "oct okt out ott", "nov",
            "dec dez dic déc",
        ),
        1,
    )
    for beginning in beginnings.split()
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")
_FILLERS = frozenset(
    [
        "st",
        "nd",
        "rd",
        "th",
        "er",
        "ten",
        "ste",
        "de",
        "do",
        "da",
        "del",
        "der",
        "den",
        "di",
        "du",
        "of",
        "the",
        "am",
        "le",
        "el",
        "il",
        "on",
        "in",
        "e",
        "y",
    ]
)
OLDEST = 1900


def is_birth_date(text: str, start: int, end: int, *, announced: bool) -> bool:
    """Whether a value is a day of a month or year since 1900, or a year that is announced.

    A timestamp is none, nor is a number alone, unless it is announced and of eight digits.
    """
    value = text[start:end]
    if is_timestamp(text, end):
        return False
    numbers = re.findall(r"\d+", value)
    words = [word.casefold() for word in _WORD.findall(value)]
    months = [month for word in words if (month := _month(word))]
    if any(not _month(word) and word not in _FILLERS for word in words) and not announced:
        return False
    if re.search(r"[年년月월日일]", value):
        return len(numbers) >= 2
    if months:
        return bool(numbers) and (announced or any(_is_year(number) for number in numbers))
    if len(numbers) == 1:
        (number,) = numbers
        return announced and ((_is_year(number) and len(number) == 4) or _is_eight_digits(number))
    if len(numbers) == 2:
        return announced and _is_day_and_month(int(numbers[0]), int(numbers[1]))
    return len(numbers) == 3 and _is_numeric_date(numbers, announced=announced)


def _month(word: str) -> int:
    """The month that a word names in one of seven languages; 0 for another word."""
    return _MONTHS.get(word[:4]) or _MONTHS.get(word[:3]) or 0


def _is_year(number: str) -> bool:
    if len(number) == 2:
        return True
    return len(number) == 4 and OLDEST <= int(number) <= date.today().year


def _is_day_and_month(one: int, other: int) -> bool:
    return 1 <= min(one, other) <= 12 and 1 <= max(one, other) <= 31


def _is_eight_digits(number: str) -> bool:
    if len(number) != 8:
        return False
    return (_is_year(number[:4]) and _is_day_and_month(int(number[4:6]), int(number[6:]))) or (
        _is_year(number[4:]) and _is_day_and_month(int(number[:2]), int(number[2:4]))
    )


def _is_numeric_date(numbers: list[str], *, announced: bool) -> bool:
    if len(numbers[0]) == 4:
        year, one, other = numbers
    else:
        one, other, year = numbers
    return (
        _is_year(year)
        and len(year) in ((2, 4) if announced else (4,))
        and max(len(one), len(other)) <= 2
        and _is_day_and_month(int(one), int(other))
    )
