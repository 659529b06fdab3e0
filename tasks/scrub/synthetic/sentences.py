"""Sentences with labelled, invented personal data, for training and auditing the detector."""

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources

from data_contracts.findings import Finding, LabelledText
from tasks.scrub.synthetic.values import ENTITIES, Values, is_for_audits

CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
SLOT = re.compile(r"\{\{(\w+)\}\}")


@cache
def templates(*, for_audits: bool) -> tuple[str, ...]:
    """Those that are kept from training, or the others."""
    text = resources.files(__package__).joinpath("templates.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(line for line in lines if is_for_audits(line) == for_audits)


def sentences(count: int, seed: int) -> Iterator[LabelledText]:
    """Filled templates to train on; one in five in small letters, as people write in chats."""
    values = Values(seed)
    for _ in range(count):
        values.country()
        sentence = fill(values.draw.choice(templates(for_audits=False)), values)
        kind = values.draw.random()
        if kind < 0.2:
            yield with_text(sentence, sentence.text.lower())
        elif kind < 0.23:
            yield with_text(sentence, sentence.text.upper())
        else:
            yield sentence


def fill(template: str, values: Values) -> LabelledText:
    """Choose between the template's words and put values in its slots."""
    while CHOICE.search(template):
        template = CHOICE.sub(lambda m: values.draw.choice(m[1].split("|")), template, count=1)
    template = template.replace("\\\\n", "\0").replace("\\n", "\n").replace("\\t", "\t")
    template = template.replace("\0", "\\n")
    text, labels, at = "", [], 0
    for slot in SLOT.finditer(template):
        text += template[at : slot.start()]
        value = values.value(slot[1])
        if entity := ENTITIES.get(slot[1]):
            labels.append(Finding(len(text), len(text) + len(value), entity))
        text += value
        at = slot.end()
    return LabelledText(text + template[at:], labels)


def with_text(sentence: LabelledText, text: str) -> LabelledText:
    """The same labels over another spelling; the sentence itself if that moved characters."""
    return LabelledText(text, sentence.labels) if len(text) == len(sentence.text) else sentence
