"""Texts with labelled personal data that no detector here was trained on.

| set | what it is |
|---|---|
| `generated` | presidio-evaluator's generator: templates and names of others |
| `planted` | our held-out templates and values, every entity as often as any other |
| `language CODE` | held-out templates of a language, with names and places of its countries |
| `noisy` | sentences of the first two as people post them, see `bench.pii.noise` |
| `chitchat` | human conversations, labelled by hand: see `LABELLING.md` |
| `chitchat random` | those of them that were drawn at random: their rates are those of chat |
"""

import json
import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from bench.pii.noise import noisy
from bench.pii.samples import Sample
from data_contracts.findings import Finding, LabelledText
from data_contracts.policy import ScrubPolicy

LABELS = Path(__file__).with_name("chitchat_labels.json")
KINDS = ("spans", "general")
# The generator's labels under our names. What is not here is not what the shipped policy looks
# for: titles (Dr.), ages, nationalities, and dates that are nobody's birthday.
GENERATED_NAMES = {
    "STREET_ADDRESS": "LOCATION",
    "GPE": "LOCATION",
    "ZIP_CODE": "LOCATION",
    "DOMAIN_NAME": "URL",
    **{
        name: name
        for name in (
            "PERSON", "ORGANIZATION", "PHONE_NUMBER", "EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE",
            "IP_ADDRESS", "US_SSN", "US_DRIVER_LICENSE",
        )
    },
}  # fmt: skip


def generated(count: int, seed: int) -> list[LabelledText]:
    """Sentences of presidio-evaluator, labels as it names them."""
    from tasks.sources import pii_sentences

    return [
        LabelledText(
            sample.full_text,
            [
                Finding(span.start_position, span.end_position, span.entity_type)
                for span in sample.spans
            ],
        )
        for sample in pii_sentences(count, seed)
    ]


def planted(count: int, policy: ScrubPolicy, seed: int) -> list[LabelledText]:
    """Held-out templates with held-out values, alone, every entity as often as any other."""
    from tasks.scrub.audit import AuditSettings, plant

    return list(plant([""] * count, policy, AuditSettings(seed=seed)))


def in_language(language: str, count: int, policy: ScrubPolicy, seed: int) -> list[LabelledText]:
    """Held-out templates of a language, filled with held-out values of its countries."""
    from tasks.scrub.synthetic.sentences import fill, templates
    from tasks.scrub.synthetic.values import Values

    values = Values(seed, for_audits=True)
    held_out = templates(for_audits=True, language=language)
    texts = []
    for _ in range(count):
        values.country(language)
        filled = fill(values.draw.choice(held_out), values)
        labels = [label for label in filled.labels if label.entity in policy.entities]
        texts.append(LabelledText(filled.text, labels))
    return texts


def posted(count: int, policy: ScrubPolicy, seed: int) -> list[LabelledText]:
    """Sentences about people, places and organisations as they are posted."""
    clean = planted(2 * count, policy, seed + 1)
    clean += [_renamed(text) for text in generated(2 * count, seed + 1)]
    draw = random.Random(seed)
    draw.shuffle(clean)
    return noisy(clean, count, draw)


def _renamed(text: LabelledText) -> LabelledText:
    return LabelledText(
        text.text,
        [
            Finding(label.start, label.end, GENERATED_NAMES.get(label.entity, label.entity))
            for label in text.labels
        ],
    )


def chitchat(stratum: str | None = None) -> list[Sample]:
    """The turns that were labelled by hand, of one stratum or of all."""
    samples = []
    for row in json.loads(LABELS.read_text(encoding="utf-8")):
        if stratum in (None, row["stratum"]):
            messages = conversations()[row["conversation"]]
            labels, general = ([Finding(*span) for span in row[kind]] for kind in KINDS)
            samples.append(Sample(messages, row["turn"], labels, general))
    return sorted(samples, key=lambda sample: sample.messages)  # a conversation is scrubbed once


@cache
def conversations() -> dict[str, tuple[str, ...]]:
    """{id: its messages} of the human conversations."""
    from tasks.sources import chitchat_rows

    return {
        row["id"]: tuple(message["content"] for message in row["messages"])
        for row in chitchat_rows()
    }


def sets(
    sentences: int, count: int, policy: ScrubPolicy, seed: int
) -> Iterator[tuple[str, Callable[[], list[Sample]], dict[str, str]]]:
    """(name, what makes it, {entity of its labels: entity of ours}) of each set.

    Args:
        sentences: of the generator.
        count: texts of ours, of each language and noisy ones.
        policy: what is looked for.
        seed: of what is generated.
    """
    from tasks.scrub.synthetic.values import LANGUAGES

    ours = {entity: entity for entity in policy.entities}
    yield "generated", lambda: _alone(generated(sentences, seed)), GENERATED_NAMES
    yield "planted", lambda: _alone(planted(count, policy, seed)), ours
    for language in LANGUAGES:
        yield f"language {language}", partial(_spoken, language, count // 4, policy, seed), ours
    yield "noisy", lambda: _alone(posted(count // 2, policy, seed)), ours
    yield "chitchat", chitchat, ours
    yield "chitchat random", lambda: chitchat("random"), ours


def _spoken(language: str, count: int, policy: ScrubPolicy, seed: int) -> list[Sample]:
    return _alone(in_language(language, count, policy, seed))


def _alone(texts: list[LabelledText]) -> list[Sample]:
    return [Sample((labelled.text,), 0, labelled.labels) for labelled in texts]
