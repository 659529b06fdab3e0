"""Numbers with their digits one by one: "4 1 1 1  1 1 1 1", "4-1-1-1", a digit a line."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tasks.scrub.views.base import Edit

# Digits of the shortest and the longest number that is offered.
FEWEST, MOST = 7, 34

_NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))
_DASH = re.compile(r"[-\u2010-\u2015\u2212]")
_LINE_BREAK = r"[ \t]*\r?\n[ \t>]*"
_SEPARATOR = (
    rf"(?:{_LINE_BREAK}|[ \t]{{1,4}}|,[ \t]{{1,2}}"
    r"|[ \t]?[-\u2010-\u2015\u2212._/\u00b7\u2022][ \t]?)"
)
_SINGLES = re.compile(
    rf"\d(?<![\w.,]\d)(?:{_SEPARATOR}\d(?!\d)){{{FEWEST - 1},2000}}+(?![\w%\u00b0])"
)
_LOOSE = re.compile(rf"\d(?<!\w\d){_SEPARATOR}\d(?!\w){_SEPARATOR}[A-Za-z0-9](?!\w)")
_SPACED_IBAN = re.compile(
    rf"[A-Za-z](?<!\w.)(?:{_SEPARATOR}[A-Za-z])(?:{_SEPARATOR}\d){{2}}"
    rf"(?:{_SEPARATOR}[A-Za-z0-9](?!\w)){{11,30}}+(?!\w)"
)
# What says that digits before or after are a list, a table or a formula; a comma between groups
# of digits is none.
_LIST = r"(?:[\[{*^|<]|(?<![+\d])\d{2,4}|\d ?[,;+=]|[^\W_] ?\+)"
_LIST_BEFORE = re.compile(rf"{_LIST}[ \t]{{0,4}}[-.]?[ \t]{{0,4}}$")
_COLUMN_BEFORE = re.compile(rf"{_LIST}{_LINE_BREAK}$")
_LIST_AFTER = re.compile(r"[ \t]*(?:[-.]?[ \t]?\d|[=+*^\]}|]|,[ \t]?\d)")
_COLUMN_AFTER = re.compile(rf"{_LINE_BREAK}\d")
_EQUALS = re.compile(r"=[ \t]?$")
_ROWS_OF_A_TABLE = 3


def has_digits(text: str) -> bool:
    """Whether there are digits for one number."""
    return len(text) - len(text.translate(_NO_DIGITS)) >= FEWEST


def is_listing(numbers: Sequence[int]) -> bool:
    """Counting ("1 2 3 4", "9 7 5 3", "1 1 1 1"), rising or falling digits, and bits."""
    steps = {after - before for before, after in pairwise(numbers)}
    if max(numbers, default=0) > 9:
        return len(steps) <= 1
    one_way = all(step > 0 for step in steps) or all(step < 0 for step in steps)
    return one_way or len({step % 10 for step in steps}) <= 1 or set(numbers) <= {0, 1}


def joiners(separators: Sequence[str]) -> list[str]:
    """What stands between digits instead: nothing, but a mark where a group of them ends.

    The commonest separator is the one within groups; dashes between groups stay dashes.
    """
    within = _within(separators)
    return ["" if one == within else "-" if _DASH.search(one) else " " for one in separators]


def single_digits(text: str) -> Iterable[Edit]:
    """Seven and more digits one by one, and IBANs so, that are no list, table or formula."""
    if not has_digits(text):
        return
    found = [match for match in _SINGLES.finditer(text) if _is_number(match, text)]
    if _LOOSE.search(text):
        found += _SPACED_IBAN.finditer(text)
    done = 0
    for match in sorted(found, key=re.Match.start):
        start, end = match.span()
        if start < done:
            continue
        if text[max(start - 2, 0) : start] == "+ ":
            yield Edit(start - 1, start, "")
        gaps = list(re.finditer(r"[\W_]+", match[0]))
        for gap, joiner in zip(gaps, joiners([gap[0] for gap in gaps]), strict=True):
            yield Edit(start + gap.start(), start + gap.end(), joiner)
        done = end


def _within(separators: Sequence[str]) -> str:
    return Counter(separators).most_common(1)[0][0]


def _is_number(match: re.Match[str], text: str) -> bool:
    digits = [int(digit) for digit in re.findall(r"\d", match[0])]
    if len(digits) > MOST or is_listing(digits):
        return False
    start, end = match.span()
    column = match[0].count("\n") == len(digits) - 1
    before, after = (_COLUMN_BEFORE, _COLUMN_AFTER) if column else (_LIST_BEFORE, _LIST_AFTER)
    if before.search(text, max(start - 12, 0), start) or after.match(text, end):
        return False
    separators = re.findall(r"[\W_]+", match[0])
    within = _within(separators)
    if "," in within or (" - " in within and _EQUALS.search(text, max(start - 2, 0), start)):
        return False
    if within.strip() and _are_pairs(separators, within):
        return False
    rows = [len(re.findall(r"\d", row)) for row in match[0].split("\n")]
    return len(rows) < _ROWS_OF_A_TABLE or max(rows) == 1 or len(set(rows[:-1])) > 1


def _are_pairs(separators: Sequence[str], within: str) -> bool:
    """Whether no three digits have the same mark between them: scores, decimals, fractions."""
    return not any(a == b == within for a, b in pairwise(separators))
