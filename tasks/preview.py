"""Preview: a conversation as a model will learn it, token by token."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict

from data_contracts.errors import RowRejected
from data_contracts.records import Record
from models.chat import IGNORED, Example, encode


class Segment(BaseModel):
    """Text of a conversation's rendering that is learnt, or that is not."""

    model_config = ConfigDict(frozen=True)

    text: str
    learnt: bool


class Preview(BaseModel):
    """One conversation as the base model's template renders it."""

    model_config = ConfigDict(frozen=True)

    id: str
    segments: tuple[Segment, ...]
    tokens: int
    learnt_tokens: int
    cut_tokens: int


def preview(tokenizer: Any, record: Record, max_length: int) -> Preview:
    """Render and encode a scrubbed conversation as training does.

    Raises:
        RowRejected: the template does not take it.
    """
    try:
        example, cut = encode(tokenizer, record.id, record.messages, max_length)
    except TemplateError as error:
        raise RowRejected(f"template: {error}") from None
    return Preview(
        id=record.id,
        segments=segments(tokenizer, example),
        tokens=len(example.input_ids),
        learnt_tokens=example.supervised,
        cut_tokens=cut,
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
