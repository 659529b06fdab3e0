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

    def overlaps(self, start: int, end: int) -> bool:
        """Whether it shares a character with [start, end)."""
        return self.start < end and start < self.end


@dataclass(frozen=True)
class LabelledText:
    """A text and where personal data is known to stand in it, left to right."""

    text: str
    labels: Sequence[Finding]


def merge(detections: Sequence[Finding]) -> list[Finding]:
    """Unions of overlapping detections, left to right."""
    merged: list[Finding] = []
    best: list[Finding] = []
    for detection in sorted(detections, key=lambda found: (found.start, -found.end)):
        if merged and detection.start < merged[-1].end:
            surest = max(best[-1], detection, key=lambda f: (f.score, f.end - f.start))
            end = max(merged[-1].end, detection.end)
            merged[-1] = Finding(merged[-1].start, end, surest.entity, surest.score)
            best[-1] = surest
        else:
            merged.append(detection)
            best.append(detection)
    return merged
