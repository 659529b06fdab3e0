"""Sentences with labelled, invented personal data, for training and auditing the detector."""

import random
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Protocol

from data_contracts.findings import Finding, LabelledText
from tasks.scrub.synthetic.values import ENTITIES, LANGUAGES, Values, is_for_audits

CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
SLOT = re.compile(r"\{\{(\w+)\}\}")
OTHER_LANGUAGES = tuple(language for language in LANGUAGES if language != "en")
# How often a text of another language has an English sentence in it.
WITH_ENGLISH = 0.03
# How often only what is personal is written small.
SMALL_VALUES = 0.04


class Draws(Protocol):
    """What fills the slots of a template."""

    @property
    def draw(self) -> random.Random: ...

    def value(self, slot: str) -> str: ...


@cache
def templates(*, for_audits: bool, language: str = "en") -> tuple[str, ...]:
    """Those of a language that are kept from training, or the others."""
    folder = resources.files("tasks.scrub.synthetic.templates")
    text = folder.joinpath(f"{language}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(line for line in lines if is_for_audits(line) == for_audits)


def sentences(count: int, seed: int) -> Iterator[LabelledText]:
    """Filled English templates to train on; one in five in small letters, as people write in
    chats."""
    values = Values(seed)
    for _ in range(count):
        yield sentence("en", values)


def foreign_sentences(count: int, seed: int) -> Iterator[LabelledText]:
    """As `sentences`, in the other languages; some have an English sentence beside."""
    values = Values(seed)
    for _ in range(count):
        drawn = sentence(values.draw.choice(OTHER_LANGUAGES), values)
        if values.draw.random() < WITH_ENGLISH:
            parts = [drawn, sentence("en", values)]
            values.draw.shuffle(parts)
            drawn = joined(parts, values.draw.choice((" ", "\n", ". ", ", ")))
        yield drawn


def sentence(language: str, values: Values) -> LabelledText:
    """One filled template of the language to train on, in one of the ways people write."""
    values.country(language)
    template = values.draw.choice(templates(for_audits=False, language=language))
    filled = fill(template, values)
    kind = values.draw.random()
    if kind < 0.2:
        return with_text(filled, filled.text.lower())
    if kind < 0.23:
        return with_text(filled, filled.text.upper())
    if kind < 0.23 + SMALL_VALUES:
        return with_small_values(filled)
    return filled


def fill(template: str, values: Draws) -> LabelledText:
    """Choose between the template's words and put values in its slots."""
    return fill_slots(unescaped(choose(template, values.draw)), values)


def choose(template: str, draw: random.Random) -> str:
    """One word of each choice in a template."""
    while CHOICE.search(template):
        template = CHOICE.sub(lambda m: draw.choice(m[1].split("|")), template, count=1)
    return template


def unescaped(template: str) -> str:
    """Line breaks and tabs for `\\n` and `\\t`; a backslash before them keeps them."""
    template = template.replace("\\\\n", "\0").replace("\\n", "\n").replace("\\t", "\t")
    return template.replace("\0", "\\n")


def fill_slots(template: str, values: Draws) -> LabelledText:
    """Put values in a template's slots; those of entities are labelled."""
    text, labels, at = "", [], 0
    for slot in SLOT.finditer(template):
        text += template[at : slot.start()]
        value = values.value(slot[1])
        if entity := ENTITIES.get(slot[1]):
            labels.append(Finding(len(text), len(text) + len(value), entity))
        text += value
        at = slot.end()
    return LabelledText(text + template[at:], labels)


def joined(parts: list[LabelledText], joint: str) -> LabelledText:
    """The texts one after another, with the joint between them."""
    text, labels = "", []
    for part in parts:
        text += joint if text else ""
        labels += [
            Finding(len(text) + label.start, len(text) + label.end, label.entity)
            for label in part.labels
        ]
        text += part.text
    return LabelledText(text, labels)


def with_text(sentence: LabelledText, text: str) -> LabelledText:
    """The same labels over another spelling; the sentence itself if that moved characters."""
    return LabelledText(text, sentence.labels) if len(text) == len(sentence.text) else sentence


def with_small_values(sentence: LabelledText) -> LabelledText:
    """The sentence with what is labelled in small letters."""
    text = sentence.text
    for label in sentence.labels:
        text = text[: label.start] + text[label.start : label.end].lower() + text[label.end :]
    return with_text(sentence, text)
