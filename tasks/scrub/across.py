"""A value over two or more messages of one speaker: "my card is 4111 1111", "1111 1111".

The pieces are joined into a short text of their own, which only recognisers of forms search, as
they do the split views of `tasks.scrub.views`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from data_contracts.findings import Finding
from data_contracts.records import Message
from tasks.scrub.views import View, view
from tasks.scrub.views.joints import REACH, Part, joints
from tasks.scrub.views.split import joiner

# What other people's forms or check digits tell from numbers that are put together by chance.
CHECKED = frozenset(
    {
        "CREDIT_CARD", "IBAN_CODE", "EMAIL_ADDRESS", "PHONE_NUMBER", "ID_NUMBER", "US_SSN",
        "US_ITIN", "UK_NHS",
    }
)  # fmt: skip
# What the other speaker may say between two parts of a value, in characters.
BETWEEN = 80


@dataclass(frozen=True)
class Crossing:
    """The end of one message and the beginnings of the next, as one text.

    Attributes:
        text: the value that goes over the messages, and what stands before and after it.
        places: for each character of `text`, the index of its message and its place in the
            message's view; None for a space put between two pieces.
        views: the messages as `view` reads them, by index.
    """

    text: str
    places: tuple[tuple[int, int] | None, ...]
    views: dict[int, View]

    def findings(self, found: Finding) -> list[tuple[int, Finding]]:
        """The parts of a finding, by message; none if it lies in one message alone.

        What lies in one message is found in that message.
        """
        within = [place for place in self.places[found.start : found.end] if place]
        parts = []
        for index in dict.fromkeys(message for message, _ in within):
            places = [place for message, place in within if message == index]
            seen = self.views[index]
            part = Finding(places[0], places[-1] + 1, found.entity, found.score)
            parts.append((index, seen.finding(part)))
        return parts if len(parts) > 1 else []


def crossings(messages: Sequence[Message]) -> Iterator[tuple[tuple[str, ...], Crossing]]:
    """(a speaker's messages in a row, what may go over two of them) of a conversation.

    What the other says between them is short: "ok, and the rest?".
    """
    for role in ("user", "assistant"):
        row: list[str] = []
        for message in messages:
            if message.role == role:
                row.append(message.content)
            elif len(message.content) > BETWEEN:
                yield from _of_row(row)
                row = []
        yield from _of_row(row)


def _of_row(row: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Crossing]]:
    for one in across(row):
        yield tuple(row), one


def across(texts: Sequence[str]) -> list[Crossing]:
    """The values cut between consecutive messages of one speaker.

    Args:
        texts: the messages of one speaker, in order; the caller leaves out what the other says
            between them where it is short, and does not join what a long answer parts.
    """
    if len(texts) < 2:
        return []
    if not any(_may_join(before, after) for before, after in pairwise(texts)):
        return []
    views = [view(text) for text in texts]
    return [_crossing(parts, views) for parts in joints([seen.text for seen in views], rows=False)]


def _may_join(before: str, after: str) -> bool:
    """Whether a number or an address can go on from one message to the next, at little cost."""
    end, beginning = before[-REACH:].rstrip(" .,\n\t\u2026-)"), after[:REACH]
    digits = end[-1:].isdigit() and any(map(str.isdigit, beginning))
    capitals = end[-1:].isalnum() and any(map(str.isdigit, end)) and beginning[:1].isalnum()
    return digits or capitals or "@" in end or "@" in beginning[:12]


def _crossing(parts: Sequence[Part], views: Sequence[View]) -> Crossing:
    characters: list[str] = []
    places: list[tuple[int, int] | None] = []
    for number, part in enumerate(parts):
        text = views[part.index].text
        start, end = part.start, part.end
        if number == 0:
            start = max(start - REACH, 0)
        elif space := joiner(characters[-1], text[start]):
            characters.append(space)
            places.append(None)
        if number == len(parts) - 1:
            end = min(end + REACH, len(text))
        characters += text[start:end]
        places += [(part.index, place) for place in range(start, end)]
    seen = {part.index: views[part.index] for part in parts}
    return Crossing("".join(characters), tuple(places), seen)
