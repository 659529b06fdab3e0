"""Counts of what is found of labelled personal data.

A span is covered if no letter or digit of it is outside all findings. Recall is the share of spans
that are covered, by whatever finding; precision of an entity is the share of its findings that
touch a span of that entity, overall precision of those that touch any span. A finding that only
touches what is general counts neither way.

Beside the spans, characters are counted without regard to entities, as PIIMB does: the share of
personal letters and digits that are covered, and the share of all others that are.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from bench.pii.samples import Sample
from data_contracts.findings import Finding


class Score:
    """Counts over samples, by entity.

    Args:
        names: {entity of the labels: entity of ours}; labels that are not named are not scored.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.spans, self.covered = Counter[str](), Counter[str]()
        self.others, self.others_covered = Counter[str](), Counter[str]()
        self.findings, self.right, self.touching = Counter[str](), Counter[str](), Counter[str]()
        self.characters = Counter[str]()

    def add(self, sample: Sample, found: Sequence[Finding]) -> None:
        hidden = _places(found)
        for label in sample.labels:
            covered = _signs(sample.text, [label]) <= hidden
            name = self.names.get(label.entity)
            spans, hits = (self.spans, self.covered) if name else (self.others, self.others_covered)
            spans[name or label.entity] += 1
            hits[name or label.entity] += covered
        for one in found:
            self._count(one, sample)
        self._count_characters(sample, hidden)

    def _count(self, found: Finding, sample: Sample) -> None:
        """One finding, unless it is of a kind that is not scored here."""
        touched = {label.entity for label in sample.labels if _touch(label, found)}
        scored = {self.names[entity] for entity in touched if entity in self.names}
        general = any(_touch(label, found) for label in sample.general)
        if found.entity not in self.names.values() or ((touched or general) and not scored):
            return
        self.findings[found.entity] += 1
        self.touching[found.entity] += bool(scored)
        self.right[found.entity] += found.entity in scored

    def _count_characters(self, sample: Sample, hidden: Collection[int]) -> None:
        scored = [label for label in sample.labels if label.entity in self.names]
        others = [label for label in sample.labels if label.entity not in self.names]
        personal = _signs(sample.text, scored)
        neither = _signs(sample.text, [*others, *sample.general]) - personal
        rest = _signs(sample.text, [Finding(0, len(sample.text), "")]) - personal - neither
        self.characters["personal"] += len(personal)
        self.characters["personal_covered"] += len(personal.intersection(hidden))
        self.characters["other"] += len(rest)
        self.characters["other_covered"] += len(rest.intersection(hidden))

    def summary(self) -> dict[str, Any]:
        from scipy.stats import binomtest

        spans, covered = self.spans.total(), self.covered.total()
        low, high = binomtest(spans - covered, spans).proportion_ci(method="wilson")
        every = spans + self.others.total()
        every_covered = covered + self.others_covered.total()
        characters = self.characters
        return {
            "spans": spans,
            "not_covered": 1 - covered / spans,
            "not_covered_95": [low, high],
            "not_covered_with_the_unscored": 1 - every_covered / every,
            "precision": share(self.touching.total(), self.findings.total()),
            "precision_same_entity": share(self.right.total(), self.findings.total()),
            "personal_characters_covered": share(
                characters["personal_covered"], characters["personal"]
            ),
            "other_characters_covered": share(characters["other_covered"], characters["other"]),
            "entities": {
                name: {
                    "spans": count,
                    "recall": share(self.covered[name], count),
                    "precision": share(self.right[name], self.findings[name]),
                }
                for name, count in self.spans.most_common()
            },
            "unscored": {
                name: {"spans": count, "covered": share(self.others_covered[name], count)}
                for name, count in self.others.most_common()
            },
        }


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _touch(one: Finding, other: Finding) -> bool:
    return one.overlaps(other.start, other.end)


def _places(spans: Sequence[Finding]) -> set[int]:
    return {at for span in spans for at in range(span.start, span.end)}


def _signs(text: str, spans: Sequence[Finding]) -> set[int]:
    """Where letters and digits stand in the spans."""
    return {at for at in _places(spans) if text[at].isalnum()}
