"""Values with inline markup or line breaks within."""

import re
from collections.abc import Iterable
from itertools import pairwise

from tasks.scrub.views.base import Edit
from tasks.scrub.views.digits import has_digits
from tasks.scrub.views.joints import joints

_INLINE = (
    "abbr|a|big|bdi|bdo|b|code|del|em|font|ins|i|kbd|mark|nobr|samp|small|span|strike|strong|s|tt"
    "|u|var|wbr"
)
_TAGS = re.compile(rf"(?:</?(?:{_INLINE})(?:\s[^<>]{{0,300}})?/?>|<!--[^<>]{{0,300}}-->)+", re.I)
_BEFORE = re.compile(r"[\d@][\s-]?$|[\w.]$")
_AFTER = re.compile(r"[\s-]?[\d@]|[\w.]\w")
_BREAK = re.compile(r"<br\s{0,3}/?>", re.I)
_EMPHASIS = re.compile(
    r"(?P<mark>(?P<sign>[*_~`])(?P=sign){0,2})(?P<value>[\d@](?:[\w@. ()-]{0,80}[\w)])?)(?P=mark)"
)


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
        in_pieces = _BEFORE.search(text, max(start - 2, 0), start) or _AFTER.match(text, end)
        product = (
            len(mark) == 1 and text[start - 1 : start].isdigit() and text[end : end + 1].isdigit()
        )
        if not in_pieces or product:
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
    for value in joints(lines, rows=True):
        for before, after in pairwise(value):
            start, end = starts[before.index] + before.end, starts[after.index] + after.start
            yield Edit(start, end, joiner(text[start - 1], text[end]))


def joiner(last: str, first: str) -> str:
    """What stands between two pieces of one value: a space between digits, else nothing."""
    return " " if last.isalnum() and first.isalnum() and (last + first).isdigit() else ""
