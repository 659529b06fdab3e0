"""Values in pieces: digits one by one, inline markup within, line breaks within."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tasks.scrub.views.base import Edit
from tasks.scrub.views.joints import joints

# Digits of the shortest and the longest number that is offered.
FEWEST, MOST = 7, 34

_NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))
_LINE_BREAK = r"[ \t]*\r?\n[ \t>]*"
_SEPARATOR = rf"(?:{_LINE_BREAK}|[ \t]{{1,4}}|[ \t]?[-\u2010-\u2015\u2212._/\u00b7\u2022][ \t]?)"
_SINGLES = re.compile(
    rf"\d(?<![\w.,]\d)(?:{_SEPARATOR}\d(?!\d)){{{FEWEST - 1},{MOST + 1}}}+(?![\w%\u00b0])"
)
_LOOSE = re.compile(rf"\d(?<!\w\d){_SEPARATOR}\d(?!\w){_SEPARATOR}[A-Za-z0-9](?!\w)")
_SPACED_IBAN = re.compile(
    rf"[A-Za-z](?<!\w.)(?:{_SEPARATOR}[A-Za-z])(?:{_SEPARATOR}\d){{2}}"
    rf"(?:{_SEPARATOR}[A-Za-z0-9](?!\w)){{11,30}}+(?!\w)"
)
# What says that digits before or after are a list, a table or a formula.
_LIST_BEFORE = re.compile(rf"(?:[\[{{=+*^<|,;]|\d{{2}})(?:{_LINE_BREAK}|[ \t]{{0,4}}[-.]?[ \t]{{0,4}})$")
_LIST_AFTER = re.compile(rf"(?:{_LINE_BREAK}|[ \t]*)(?:[-.]?[ \t]?\d|[=+*^\]}}|]|,[ \t]?\d)")
_ROWS_OF_A_TABLE = 3

_INLINE = (
    "abbr|a|big|bdi|bdo|b|code|del|em|font|ins|i|kbd|mark|nobr|samp|small|span|strike|strong|s|tt"
    "|u|var|wbr"
)
_TAGS = re.compile(rf"(?:</?(?:{_INLINE})(?:\s[^<>]{{0,300}})?/?>|<!--[^<>]{{0,300}}-->)+", re.I)
_BREAK = re.compile(r"<br\s{0,3}/?>", re.I)
_EMPHASIS = re.compile(
    r"(?P<mark>(?P<sign>[*_~`])(?P=sign){0,2})(?P<value>[\d@](?:[\w@. ()-]{0,80}[\w)])?)(?P=mark)"
)


def is_listing(digits: Sequence[int]) -> bool:
    """Counting ("1 2 3 4", "9 7 5 3", "1 1 1 1"), rising or falling digits, and bits."""
    steps = {after - before for before, after in pairwise(digits)}
    if max(digits, default=0) > 9:
        return len(steps) <= 1
    one_way = all(step > 0 for step in steps) or all(step < 0 for step in steps)
    return one_way or len({step % 10 for step in steps}) <= 1 or set(digits) <= {0, 1}


def has_digits(text: str) -> bool:
    """Whether there are digits for one number."""
    return len(text) - len(text.translate(_NO_DIGITS)) >= FEWEST


def single_digits(text: str) -> Iterable[Edit]:
    """Seven and more digits one by one, and IBANs so, that are no list, table or formula."""
    if not has_digits(text):
        return
    found = [match for match in _SINGLES.finditer(text) if _is_number(match, text)]
    if _LOOSE.search(text):
        found += _SPACED_IBAN.finditer(text)
    done = 0
    for match in sorted(found, key=re.Match.start):
        if match.start() < done:
            continue
        done = match.end()
        for gap in re.finditer(r"[\W_]+", match[0]):
            yield Edit(match.start() + gap.start(), match.start() + gap.end(), "")


def _is_number(match: re.Match[str], text: str) -> bool:
    digits = [int(digit) for digit in re.findall(r"\d", match[0])]
    start, end = match.span()
    if len(digits) > MOST or is_listing(digits):
        return False
    if _LIST_BEFORE.search(text, max(start - 12, 0), start) or _LIST_AFTER.match(text, end):
        return False
    rows = [len(re.findall(r"\d", row)) for row in match[0].split("\n")]
    return len(rows) < _ROWS_OF_A_TABLE or max(rows) == 1 or len(set(rows[:-1])) > 1


def markup(text: str) -> Iterable[Edit]:
    """Inline HTML tags and Markdown emphasis, a line break's tag as a line break."""
    if "@" not in text and not has_digits(text):
        return
    edits = []
    if "<" in text:
        edits += [Edit(*match.span(), "") for match in _TAGS.finditer(text)]
        edits += [Edit(*match.span(), "\n") for match in _BREAK.finditer(text)]
    for match in _EMPHASIS.finditer(text):
        mark, (start, end) = match["mark"], match.span()
        inside = text[max(start - 1, 0) : start].isdigit() and text[end : end + 1].isdigit()
        if len(mark) == 1 and inside:  # a product, or groups of digits
            continue
        edits += Edit(start, start + len(mark), ""), Edit(end - len(mark), end, "")
    done = 0
    for edit in sorted(edits):
        if edit.start >= done:
            yield edit
            done = edit.end


def broken_lines(text: str) -> Iterable[Edit]:
    """Line breaks within a number or an e-mail address, with a quotation's > after them."""
    if "\n" not in text or not ("@" in text or has_digits(text)):
        return
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    for value in joints(lines):
        for before, after in pairwise(value):
            start, end = starts[before.index] + before.end, starts[after.index] + after.start
            yield Edit(start, end, joiner(text[start - 1], text[end]))


def joiner(last: str, first: str) -> str:
    """What stands between two pieces of one value: a space between digits, else nothing."""
    return " " if last.isalnum() and first.isalnum() and (last + first).isdigit() else ""
