"""Where personal data stands in a text."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Personal data at characters [start, end) of a text."""

    start: int
    end: int
    entity: str
    score: float = 1.0


@dataclass(frozen=True)
class LabelledText:
    """A text and where personal data is known to stand in it, left to right."""

    text: str
    labels: Sequence[Finding]
