"""Preview: a conversation as a model will learn it, token by token."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict

from data_contracts.errors import RowRejected
from data_contracts.records import Record
from models.chat import IGNORED, Example, encode
from models.template import ChatTemplate, TemplateRefusal


class Segment(BaseModel):
    """Text of a conversation's rendering that is learnt, or that is not."""

    model_config = ConfigDict(frozen=True)

    text: str
    learnt: bool


class Lesson(BaseModel):
    """What a model learns from at once: a conversation, or one up to one of its answers, where the
    base model's template writes earlier turns otherwise once there are later ones."""

    model_config = ConfigDict(frozen=True)

    segments: tuple[Segment, ...]
    tokens: int
    learnt_tokens: int


class Preview(BaseModel):
    """One conversation as the base model's template writes it; `changed` says how it was adapted
    to the template, and what the template leaves out."""

    model_config = ConfigDict(frozen=True)

    id: str
    lessons: tuple[Lesson, ...]
    changed: tuple[str, ...]
    cut_tokens: int


def preview(template: ChatTemplate, record: Record, max_length: int) -> Preview:
    """Render and encode a scrubbed conversation as training does.

    Raises:
        RowRejected: the template does not take it, or nothing of it is learnt.
    """
    try:
        examples, report = encode(template, record.id, record, max_length)
    except TemplateRefusal as refusal:
        raise RowRejected(f"template: {refusal.reason}") from None
    for reason in report.skipped:
        raise RowRejected(f"template: {reason}")
    return Preview(
        id=record.id,
        lessons=tuple(
            Lesson(
                segments=segments(template.tokenizer, example),
                tokens=len(example.input_ids),
                learnt_tokens=example.supervised,
            )
            for example in examples
        ),
        changed=tuple(sorted(report.changed)),
        cut_tokens=report.tokens_cut,
    )


def segments(tokenizer: Any, example: Example) -> tuple[Segment, ...]:
    """The text of an example, cut where learnt tokens begin and end."""
    found: list[Segment] = []
    end, before = 0, ""
    for learnt, run in groupby(label != IGNORED for label in example.labels):
        end += len(list(run))
        # Decoded from the beginning: a tokenizer may write a word's space only within a text.
        text = _decoded(tokenizer, example.input_ids[:end])
        found.append(Segment(text=text[len(before) :], learnt=learnt))
        before = text
    return tuple(found)


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))
