"""A reading of a text, with the place in the original of each of its characters."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from data_contracts.findings import Finding

# What was hidden: nothing; by an encoding; by words and letters; by what stands between parts.
Kind = Literal["plain", "encoded", "spelled", "split"]
Spans = tuple[tuple[int, int], ...]

# Marks that belong to the character before them.
_HANGING = ("Mn", "Mc", "Me", "Cf")
_SKIN_TONES = range(0x1F3FB, 0x1F400)
# These close what a mark further left opened.
_CLOSING = "\u202c\u2069"


class Edit(NamedTuple):
    """Characters [start, end) of a text are to be read as `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class View:
    """`text` to search in, read from `original`.

    Attributes:
        spans: for each character of `text`, the [start, end) of the original that it was read
            from; None where the two correspond one to one.
        kind: what the reading makes plain.
    """

    text: str
    original: str
    spans: Spans | None = None
    kind: Kind = "plain"

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The [start, end) of the original that the non-empty text[start:end] was read from."""
        if self.spans is None:
            return start, end
        return self.spans[start][0], self.spans[end - 1][1]

    def finding(self, found: Finding) -> Finding:
        """The same finding at its place in the original, with the marks that hang on its end.

        A character that stands for several of the original (an HTML entity, a run of base64, a
        number word) brings all of them.
        """
        start, end = self.span(found.start, found.end)
        if not self.original.isascii():
            while end < len(self.original) and _hangs(self.original[end]):
                end += 1
        return Finding(start, end, found.entity, found.score)

    def reveals(self, start: int, end: int) -> bool:
        """Whether text[start:end] reads otherwise than the original does at its place."""
        first, last = self.span(start, end)
        return self.text[start:end] != self.original[first:last]

    def rewritten(self, edits: Iterable[Edit], kind: Kind) -> Self:
        """This reading with edits made, which stand left to right and do not overlap."""
        pieces: list[str] = []
        spans: list[tuple[int, int]] = []
        done = 0
        for start, end, text in edits:
            pieces += self.text[done:start], text
            spans += self._spans(done, start)
            spans += [self.span(start, end)] * len(text)
            done = end
        pieces.append(self.text[done:])
        spans += self._spans(done, len(self.text))
        return type(self)("".join(pieces), self.original, tuple(spans), kind)

    def _spans(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        if self.spans is not None:
            return self.spans[start:end]
        return list(zip(range(start, end), range(start + 1, end + 1), strict=True))


def _hangs(character: str) -> bool:
    if ord(character) in _SKIN_TONES:
        return True
    return unicodedata.category(character) in _HANGING and character not in _CLOSING
