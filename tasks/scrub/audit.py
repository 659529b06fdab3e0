"""The audit: plants invented personal data into real records, and counts how much of it survives
and how much of the records themselves is replaced.

Names, places and sentences are ones that the detector was never trained on
(`tasks.scrub.synthetic`), each once in a record of the user's own, so that what is around it is
what the scrub really meets.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import DataError, RowRejected
from data_contracts.findings import Finding, LabelledText
from data_contracts.policy import ScrubPolicy
from data_contracts.records import Record
from tasks.ingest import Listing
from tasks.scrub.engine import Find, is_covered
from tasks.scrub.synthetic.sentences import SLOT, fill, templates
from tasks.scrub.synthetic.values import ENTITIES, Values
from tasks.scrub.workers import Search

# Where no sentence kept from training holds a kind of data, one of these does.
CARRIERS = ("here you go: {{%s}}", "{{%s}}", "it was {{%s}}, I think", "ok so {{%s}} right?")
BREAK = re.compile(r"(?<=[.!?\n])\s+")
# Words and numbers, `1,234.5` and `don't` being one each.
TOKEN = re.compile(r"\d+(?:[.,]\d+)*(?!\w)|\w+(?:['\u2019]\w+)?")
# With fewer words or numbers, a share of them says too little to reject a scrub.
ENOUGH = 200
# How many strings of each entity `most_replaced` lists.
SHOWN = 20

Replaced: TypeAlias = list[tuple[str, int]]


class AuditSettings(BaseModel):
    """How well the scrub has to do on planted personal data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    records: int = Field(
        default=400, ge=0, description="Records that personal data is planted into; 0 for none."
    )
    max_leak_rate: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of what was planted that may survive; more, and nothing is trained.",
    )
    max_changed: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of the data's own words, or numbers, that may be replaced; more, and"
        " nothing is trained.",
    )
    seed: int = Field(default=0, ge=0, description="Of what is planted where.")


class Changed(BaseModel):
    """How much of the sampled messages, as they were, is replaced."""

    model_config = ConfigDict(frozen=True)

    words: int = 0
    words_replaced: int = 0
    numbers: int = 0
    numbers_replaced: int = 0

    @property
    def share_of_words(self) -> float:
        return self.words_replaced / self.words if self.words else 0.0

    @property
    def share_of_numbers(self) -> float:
        return self.numbers_replaced / self.numbers if self.numbers else 0.0

    @property
    def share(self) -> float:
        """The larger share; words or numbers count only if there are ENOUGH of them."""
        words = self.share_of_words if self.words >= ENOUGH else 0.0
        numbers = self.share_of_numbers if self.numbers >= ENOUGH else 0.0
        return max(words, numbers)

    def __str__(self) -> str:
        return (
            f"{self.share_of_words:.1%} of {self.words} words and {self.share_of_numbers:.1%} of"
            f" {self.numbers} numbers of the data itself are replaced"
        )


class Audit(BaseModel):
    """Counts of planted personal data, by entity, and of what of it was replaced as a whole."""

    model_config = ConfigDict(frozen=True)

    records: int
    planted: dict[str, int]
    replaced: dict[str, int]
    changed: Changed = Changed()

    @property
    def spans(self) -> int:
        return sum(self.planted.values())

    @property
    def leaked(self) -> int:
        return self.spans - sum(self.replaced.values())

    @property
    def leak_rate(self) -> float:
        return self.leaked / self.spans

    @property
    def interval(self) -> tuple[float, float]:
        """95% for the leak rate (Wilson, 1927)."""
        from scipy.stats import binomtest

        interval = binomtest(self.leaked, self.spans).proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.leaked} of {self.spans} planted pieces of personal data survived:"
            f" {self.leak_rate:.1%} (95% interval {low:.1%} to {high:.1%}); {self.changed}"
        )


def audit(listing: Listing, search: Search, settings: AuditSettings) -> Audit | None:
    """Plant, scrub, count; None if the settings ask for none."""
    if settings.records == 0:
        return None
    texts = messages(listing, settings)
    planted = list(plant(texts, search.policy, settings))
    found = search.ask([*texts, *(labelled.text for labelled in planted)])
    found.wait()
    counts, replaced = Counter[str](), Counter[str]()
    for labelled in planted:
        for label in labelled.labels:
            counts[label.entity] += 1
            # What cannot be scrubbed is quarantined, and so does not survive.
            try:
                findings = found(labelled.text)
            except RowRejected:
                replaced[label.entity] += 1
                continue
            covered = is_covered(labelled.text, label.start, label.end, findings)
            replaced[label.entity] += covered
    return Audit(
        records=len(planted),
        planted=dict(counts),
        replaced=dict(replaced),
        changed=changed_by(searchable(texts, found)),
    )


def searchable(texts: Iterable[str], find: Find) -> Iterator[tuple[str, list[Finding]]]:
    """(text, its findings) for each text that can be searched."""
    for text in texts:
        try:
            yield text, find(text)
        except RowRejected:
            continue


def changed_by(searched: Iterable[tuple[str, list[Finding]]]) -> Changed:
    """Counts the words and numbers that the findings of texts replace."""
    counts = Counter[str]()
    for text, found in searched:
        for token in TOKEN.finditer(text):
            kind = "numbers" if token[0][0].isdigit() and token[0][-1].isdigit() else "words"
            counts[kind] += 1
            if any(one.overlaps(*token.span()) for one in found):
                counts[f"{kind}_replaced"] += 1
    return Changed.model_validate(counts)


def most_replaced(listing: Listing, search: Search, settings: AuditSettings) -> dict[str, Replaced]:
    """{entity: its most frequent strings, with counts} in a sample of the records: personal data,
    to be shown to whoever asks and kept nowhere."""
    texts = [one.content for record in sampled(listing, settings) for one in record.messages]
    found = search.ask(texts)
    found.wait()
    counts: dict[str, Counter[str]] = {}
    for text, findings in searchable(texts, found):
        for one in findings:
            counts.setdefault(one.entity, Counter())[text[one.start : one.end]] += 1
    return {entity: strings.most_common(SHOWN) for entity, strings in sorted(counts.items())}


def require(audited: Audit | None, settings: AuditSettings) -> None:
    """Raises DataError: more planted data survived, or more of the records is replaced, than the
    settings allow."""
    if audited is not None and audited.leak_rate > settings.max_leak_rate:
        raise DataError(
            f"the scrub is not good enough on this data: {audited},"
            f" and scrub.audit.max_leak_rate is {settings.max_leak_rate:.1%}",
            "look at the entities in the scrub's report; add deny-list words or lower thresholds"
            " in the scrub policy",
        )
    if audited is not None and audited.changed.share > settings.max_changed:
        raise DataError(
            f"the scrub replaces too much of this data: {audited.changed}, and"
            f" scrub.audit.max_changed is {settings.max_changed:.1%}",
            "see what with `evergreen scrub --show-replaced`; then raise thresholds, take entities"
            " out of the scrub policy, or raise the limit if it is all personal",
        )


def messages(listing: Listing, settings: AuditSettings) -> list[str]:
    """One message of each sampled record."""
    draw = random.Random(settings.seed)
    records = sampled(listing, settings)
    return [draw.choice(record.messages).content for record in records if record.messages]


def sampled(listing: Listing, settings: AuditSettings) -> Iterator[Record]:
    """A seeded sample of the records that can be read."""
    count = min(settings.records, listing.rows_in)
    wanted = set(random.Random(settings.seed).sample(range(listing.rows_in), count))
    for number, (file, row) in enumerate(listing.rows()):
        if number in wanted:
            try:
                yield row.parse(file.name)
            except RowRejected:
                continue


def plant(texts: list[str], policy: ScrubPolicy, settings: AuditSettings) -> Iterator[LabelledText]:
    """Each text with a sentence of personal data in it, every kind as often as any other."""
    values = Values(settings.seed, for_audits=True)
    kinds = by_entity(policy)
    entities = sorted(kinds)
    for number, text in enumerate(texts):
        values.country()
        template = values.draw.choice(kinds[entities[number % len(entities)]])
        sentence = fill(template, values)
        at = values.draw.choice([0, *(found.end() for found in BREAK.finditer(text)), len(text)])
        before = text[:at] + ("" if not at or text[at - 1].isspace() else " ")
        labels = [
            Finding(len(before) + label.start, len(before) + label.end, label.entity)
            for label in sentence.labels
            if label.entity in policy.entities
        ]
        after = text[at:]
        joint = " " if after else ""
        yield LabelledText(before + sentence.text + joint + after, labels)


def by_entity(policy: ScrubPolicy) -> dict[str, list[str]]:
    """{entity that the policy looks for: templates kept from training that hold it}"""
    kinds: dict[str, list[str]] = {}
    for template in templates(for_audits=True):
        for entity in {ENTITIES.get(slot) for slot in SLOT.findall(template)}:
            if entity in policy.entities:
                kinds.setdefault(str(entity), []).append(template)
    for slot, entity in ENTITIES.items():
        if entity in policy.entities and entity not in kinds:
            kinds[entity] = [carrier % slot for carrier in CARRIERS]
    return kinds
