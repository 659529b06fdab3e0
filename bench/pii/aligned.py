"""What a scrub replaced, read off its output."""

import re
from collections.abc import Sequence

from data_contracts.findings import Finding
from data_contracts.policy import PLACEHOLDER

# The entity of the whole text where the output is not the input with placeholders in it.
CHANGED = "CHANGED_OTHERWISE"
NUMBER = "_0123456789abcdef"
QUOTED = re.compile(rf'"({PLACEHOLDER.pattern})"')


def replaced(original: str, scrubbed: str) -> list[Finding]:
    """The spans of the original that stand as placeholders in the output, left to right.

    Placeholders side by side are one span. In JSON a number's placeholder has quotes around it
    that the number had not; so, if nothing else fits, quotes count as part of placeholders.
    """
    if original == scrubbed:
        return []
    for output in (scrubbed, QUOTED.sub(lambda found: found[1], scrubbed)):
        spans = _spans(original, output)
        if spans is not None:
            return spans
    return [Finding(0, len(original), CHANGED)]


def _spans(original: str, scrubbed: str) -> list[Finding] | None:
    """None if the output is not the original with placeholders in it.

    Each kept piece is looked for at its first place behind the piece before, at least one
    character further; so a match is found if there is one.
    """
    kept, entities = _pieces(scrubbed)
    if not original.startswith(kept[0]) or not original.endswith(kept[-1]) or not entities:
        return None
    spans, at = [], len(kept[0])
    for number, (entity, piece) in enumerate(zip(entities, kept[1:], strict=True), 1):
        last = number == len(entities)
        end = len(original) - len(piece) if last else original.find(piece, at + 1)
        if end <= at:
            return None
        spans.append(Finding(at, end, entity))
        at = end + len(piece)
    return spans


def _pieces(scrubbed: str) -> tuple[Sequence[str], Sequence[str]]:
    """(the pieces around placeholders, the entities between them)"""
    kept: list[str] = []
    entities: list[str] = []
    at = 0
    for placeholder in PLACEHOLDER.finditer(scrubbed):
        if not entities or placeholder.start() > at:
            kept.append(scrubbed[at : placeholder.start()])
            entities.append(placeholder[0].strip("<>").rstrip(NUMBER))
        at = placeholder.end()
    return [*kept, scrubbed[at:]], entities
