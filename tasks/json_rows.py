"""Rows of a JSON file, however it lays them out.

| layout | the file |
|---|---|
| lines | one object a line, or one list of turns a line |
| values | objects one after another that span lines |
| array | `[{...}, {...}]` |
| wrapped | `{"data": [{...}, {...}], "version": ...}` |

The bytes of each row are cut out of the stream without decoding it: a row that is not JSON costs
no other, and one that is too long is never held as a whole. (`ijson` stops at the first error,
refuses the NaN that Python writes, and holds a row however long it is.)
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal

from data_contracts.formats.columns import CONVERSATIONS
from data_contracts.formats.fields import safe_name
from data_contracts.formats.turns import CONTENT_FIELDS, ROLE_FIELDS

Layout = Literal["lines", "values", "array", "wrapped"]
# How many brackets deep the rows of a layout stand.
DEPTHS: dict[Layout, int] = {"values": 0, "array": 1, "wrapped": 2}
# Names under which an object holds the rows of a data set.
WRAPPERS = (
    *("data", "rows", "records", "items", "examples", "samples", "instances", "dataset", "train"),
    *("conversations", "dialogs", "dialogues", "chats", "messages"),
)

# What tells the layout of a file.
HEAD_BYTES = 1 << 18
HEAD_LINES = 20

BOM = b"\xef\xbb\xbf"
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
OUTSIDE = re.compile(rb'["{}\[\],:]')
# A line feed inside a string is no JSON: what follows begins anew.
INSIDE = re.compile(rb'["\\\n]')
LONGEST_NAME = 200


class NotUtf8(OSError):
    """The file is text, but in another encoding than JSON's."""


def layout_of(head: bytes) -> Layout:
    """How a file lays out its rows, from its first `HEAD_BYTES`.

    Raises:
        NotUtf8: it is UTF-16 or UTF-32.
    """
    if b"\0" in head[:8] and any(_is_json_in(encoding, head) for encoding in WIDE):
        raise NotUtf8("it is UTF-16 or UTF-32 text: save it as UTF-8")
    text = head.removeprefix(BOM).lstrip()
    lines = [line.strip() for line in islice(text.split(b"\n"), HEAD_LINES)]
    if len(head) >= HEAD_BYTES and len(lines) < HEAD_LINES:
        lines.pop()  # it goes on after the head
    lines = [line for line in lines if line]
    if not text.startswith((b"{", b"[")) or _is_row_a_line(lines):
        return "lines"
    if text.startswith(b"[") and not _is_conversation(text):
        return "array"
    if text.startswith(b"{") and _is_wrapper(text):
        return "wrapped"
    return "lines" if not lines or any(map(_is_json, lines)) else "values"


def _is_json_in(encoding: str, head: bytes) -> bool:
    text = head[:400].decode(encoding, "ignore")
    return text.lstrip("\ufeff \t\r\n").startswith(("{", "["))


def _is_json(line: bytes) -> bool:
    """Whether a line is a whole object or array."""
    try:
        return isinstance(json.loads(line), dict | list)
    except (ValueError, RecursionError):
        return False


def _is_row_a_line(lines: list[bytes]) -> bool:
    """Whether each line begins a row of its own; the first one, or a few, may be damaged."""
    opening = [line.startswith((b"{", b"[")) for line in lines]
    if len(lines) > 1 and 2 * sum(map(_is_json, lines)) > len(lines):
        return True
    if len(lines) < 2 or not opening[1]:
        return False
    return _is_json(lines[0]) or (all(opening) and _is_json(lines[1]))


def _is_conversation(array: bytes) -> bool:
    """Whether the array that the text begins with is one conversation: its first element a turn."""
    names = {name for name, _ in _names(array, depth=2, elements=1)}
    return bool(names & set(ROLE_FIELDS)) and bool(names & {*CONTENT_FIELDS, "tool_calls"})


def _is_wrapper(text: bytes) -> bool:
    """Whether the object that the text begins with holds rows rather than being one."""
    for name, place in _names(text, depth=1):
        value = text[place:].lstrip()
        if name in WRAPPERS and re.match(rb"\[\s*[\[{]", value):
            return not (name in CONVERSATIONS and _is_conversation(value))
    return False


class Scanner:
    """Finds the signs of JSON text that comes in pieces, and how deep in brackets each stands."""

    def __init__(self) -> None:
        self.depth = 0
        self.in_string = False
        self._escaped = False

    def signs(self, piece: bytes) -> Iterator[tuple[bytes, int]]:
        """Brackets, commas and colons outside of strings, and the quotes around strings, each with
        its place in the piece. `depth` is the one after the sign."""
        at = int(self._escaped)
        self._escaped = False
        while found := (INSIDE if self.in_string else OUTSIDE).search(piece, at):
            sign, place = found[0], found.start()
            at = place + 1
            if sign == b"\\":
                self._escaped = at == len(piece)
                at += 1
                continue
            if sign in b'"\n':
                sign, self.in_string = b'"', not self.in_string
            elif sign in b"{[":
                self.depth += 1
            elif sign in b"}]":
                self.depth = max(0, self.depth - 1)
            yield sign, place


def _names(text: bytes, depth: int, elements: int | None = None) -> Iterator[tuple[str, int]]:
    """Names of fields that stand `depth` deep, and where their values begin.

    Args:
        elements: stop after so many objects that deep.
    """
    scanner, begun, name, ended = Scanner(), 0, b"", 0
    for sign, place in scanner.signs(text):
        if sign == b'"':
            if scanner.in_string:
                begun = place + 1
            else:
                name = text[begun:place]
        elif sign == b":" and scanner.depth == depth:
            yield name[:LONGEST_NAME].decode("utf-8", "replace"), place + 1
        elif sign in b"}]" and scanner.depth == depth - 1:
            ended += 1
            if ended == elements:
                return


class RowCutter:
    """Cuts rows out of JSON text that comes in pieces.

    Args:
        layout: any but lines.
        longest: of a row that has more bytes, so many and one more are kept.
    """

    def __init__(self, layout: Layout, longest: int) -> None:
        self._rows_at, self._longest = DEPTHS[layout], longest
        self._scanner = Scanner()
        self._in_rows = self._rows_at == 0
        self._row, self._name = bytearray(), bytearray()
        self.left_out: set[str] = set()

    def cut(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Each row, with a line feed; where the text ends early, also what there is of the last."""
        for piece in pieces:
            begun = 0
            for sign, place in self._scanner.signs(piece):
                if not self._in_rows:
                    begun = self._look_for_rows(sign, piece, begun, place)
                elif self._ends_row(sign):
                    self._keep(piece[begun : place + (self._rows_at == 0)])
                    begun = place + 1
                    self._in_rows = self._scanner.depth >= self._rows_at
                    yield from self._finished()
            self._keep(piece[begun:])
        yield from self._finished()

    def _ends_row(self, sign: bytes) -> bool:
        depth = self._scanner.depth
        if sign == b",":
            return depth == self._rows_at > 0
        return sign in b"}]" and (depth < self._rows_at or depth == self._rows_at == 0)

    def _look_for_rows(self, sign: bytes, piece: bytes, begun: int, place: int) -> int:
        """Follow the names in the object that wraps the rows; where the next thing begins."""
        depth = self._scanner.depth
        if sign == b'"':
            if self._scanner.in_string:
                self._name.clear()
            else:
                self._name += piece[begun:place][: LONGEST_NAME - len(self._name)]
            return place + 1
        name = self._name.decode("utf-8", "replace")
        if sign == b":" and depth == 1 and name not in WRAPPERS:
            self.left_out.add(safe_name(name))
        if sign == b"[" and depth == self._rows_at and (depth == 1 or name in WRAPPERS):
            self._in_rows = True
        return place + 1

    def _keep(self, part: bytes) -> None:
        if self._in_rows:
            self._row += part[: self._longest + 1 - len(self._row)]
        elif self._scanner.in_string:  # a name that goes on in the next piece
            self._name += part[: LONGEST_NAME - len(self._name)]

    def _finished(self) -> Iterator[bytes]:
        row = bytes(self._row.strip())
        self._row.clear()
        if row:
            yield row + b"\n"
