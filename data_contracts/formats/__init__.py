"""Formats of training data: a row of any of them becomes a record.

A row is recognised by its shape: the first of `FORMATS` whose columns are there. `docs/data.md`
shows a row of each.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from data_contracts.errors import RowRejected
from data_contracts.formats.columns import (
    CONVERSATIONS,
    SYSTEM,
    Conversation,
    answer_format,
    has_answer,
    has_pair,
    has_turns,
    pair_format,
    read_answer,
    read_conversation,
    read_pair,
    turns_format,
)
from data_contracts.formats.fields import Fields, Notes, Readings, is_empty, is_list
from data_contracts.formats.tools import read_tools
from data_contracts.formats.turns import (
    QUESTIONS,
    as_choice,
    read_turn,
    read_turns,
    refuse_media,
    with_call_ids,
)
from data_contracts.labels import is_label
from data_contracts.records import LabelledSpan, Message, Record
from data_contracts.timestamps import parse_moment

__all__ = [
    "FORMATS",
    "Fields",
    "Notes",
    "Reading",
    "Readings",
    "parse_id",
    "parse_message",
    "parse_messages",
    "parse_record",
    "read_row",
]

# What people say of a whole answer: desirable or not, or how good.
LABELS = ("label", "kto_tag", "desirable", "thumbs_up", "feedback")
RATINGS = ("rating", "score", "stars")
WORDS = {
    **dict.fromkeys(("up", "positive", "good", "desirable", "thumbs_up", "+1", "👍"), True),
    **dict.fromkeys(("down", "negative", "bad", "undesirable", "thumbs_down", "-1", "👎"), False),
}
# Columns of what is no conversation, and what it is.
NO_CONVERSATION = {
    "text": "plain text, not a conversation",
    "input_ids": "token ids, not text",
    "segments": "pieces of text without roles",
}


class Reading(BaseModel):
    """What one row was read as."""

    model_config = ConfigDict(frozen=True)

    record: Record
    readings: Readings


@dataclass(frozen=True)
class Format:
    """One shape of rows. `named` says what it is called where a row of it was found."""

    matches: Callable[[Fields], bool]
    named: Callable[[Fields], str]
    read: Callable[[Fields], Conversation]


FORMATS = (
    Format(has_pair, pair_format, read_pair),
    Format(has_turns, turns_format, read_conversation),
    Format(has_answer, answer_format, read_answer),
)


def read_row(row: Any, *, source: str, position: int) -> Reading:
    """Read one source row.

    Args:
        row: the decoded row: an object, or a bare list of turns.
        source: name of the file or data set, kept on the record.
        position: 0-based position in the source, the id of rows that bring none.

    Raises:
        RowRejected: with the rule broken; the row's text is never part of it.
    """
    if is_list(row) and all(isinstance(turn, Mapping) for turn in row):
        row = {"messages": row}
    if not isinstance(row, Mapping):
        raise RowRejected("row: not a JSON object")
    notes = Notes()
    fields = Fields(row, notes)
    refuse_media(fields, "row")
    found = next((form for form in FORMATS if form.matches(fields)), None)
    if found is None:
        raise _unknown_form(fields)
    name = found.named(fields)
    conversation = found.read(fields)
    desirable, rating = _label(fields), _rating(fields)
    messages = with_call_ids(_with_system(fields, conversation.messages))
    if desirable is False or _is_excluded(fields):
        messages = _unlearnt(messages, notes, "label: false" if desirable is False else "weight: 0")
    record = Record(
        id=_id(fields) or f"{source}:{position}",
        messages=messages,
        created_at=_moment(fields),
        source=source,
        labelled_spans=_spans(fields, messages),
        tools=read_tools(fields.take("tools", "functions")),
        parallel_tool_calls=_flag(fields, "parallel_tool_calls"),
        rejected=with_call_ids(conversation.rejected),
        desirable=desirable,
        rating=rating,
    )
    fields.take("served")  # Evergreen's own: how an answer was served teaches nothing
    fields.close()
    require_unicode(record)
    if record.rejected:
        notes.labels["rejected sides"] += 1
    form = name if desirable is None else f"{name}, labelled"
    return Reading(record=record, readings=notes.readings(form))


def parse_record(row: Any, *, source: str, position: int) -> Record:
    """The record of a row, without what was not read of it. Raises as `read_row` does."""
    return read_row(row, source=source, position=position).record


def parse_messages(turns: Any) -> tuple[Message, ...]:
    """Messages of a list of turns.

    Raises:
        RowRejected: not a list, or a turn in it is broken.
    """
    return with_call_ids(read_turns(turns, Notes()))


def parse_message(turn: Any) -> Message:
    """The message of one turn.

    Raises:
        RowRejected: it is broken, or holds several messages.
    """
    messages = read_turn(turn, Notes())
    if len(messages) != 1:
        raise RowRejected("messages: a turn that is several messages")
    return messages[0]


def parse_id(value: Any) -> str | None:
    """Raises RowRejected: neither a string nor an integer."""
    if value is not None and not isinstance(value, str | int):
        raise RowRejected("id: not a string or integer")
    return None if value is None else str(value)


def require_unicode(record: Record) -> None:
    """Raises RowRejected: half of a surrogate pair, which no file can hold, stands in a text."""
    try:
        record.model_dump_json()
    except ValueError:
        raise RowRejected("messages: invalid Unicode (lone surrogate)") from None


def _unknown_form(fields: Fields) -> RowRejected:
    for name in CONVERSATIONS:
        if fields.peek(name) is not None:
            return RowRejected("messages: not a list, or empty")
    for name, what in NO_CONVERSATION.items():
        if name in fields:
            return RowRejected(f"row: {what}")
    if fields.first(QUESTIONS) is not None:
        return RowRejected("row: a question without an answer")
    return RowRejected("row: no known form of a conversation")


def _with_system(fields: Fields, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns after the system prompt that stands in a column of its own."""
    value = fields.take(*SYSTEM)
    if is_empty(value):
        return messages
    content = read_turn({"role": "system", "content": value}, fields.notes)[0].content
    if not content.strip():
        return messages
    if not messages or messages[0].role != "system":
        return (Message(role="system", content=content), *messages)
    if content not in messages[0].content:
        both = f"{content}\n\n{messages[0].content}"
        return (messages[0].model_copy(update={"content": both}), *messages[1:])
    return messages


# -- optional fields: what cannot be read is unknown, and the row stays ----------------------


def _id(fields: Fields) -> str | None:
    try:
        return parse_id(fields.take("id")) or None
    except RowRejected:
        fields.unknown("id")
        return None


def _moment(fields: Fields) -> str | None:
    try:
        return parse_moment(fields.take("created_at"), "created_at")
    except RowRejected:
        fields.unknown("created_at")
        return None


def _flag(fields: Fields, name: str) -> bool | None:
    value = fields.take(name)
    if is_empty(value):
        return None
    if (choice := as_choice(value)) is None:
        fields.unknown(name)
    return choice


def _spans(fields: Fields, messages: tuple[Message, ...]) -> tuple[LabelledSpan, ...]:
    value = fields.take("labelled_spans")
    if is_empty(value):
        return ()
    try:
        spans = tuple(LabelledSpan.model_validate(span) for span in value)
    except (TypeError, ValueError):
        fields.unknown("labelled_spans")
        return ()
    for span in spans:
        if not is_label(span.entity):
            raise RowRejected("labelled_spans.entity: not a name such as PHONE_NUMBER")
        if span.turn >= len(messages) or span.end > len(messages[span.turn].content):
            fields.unknown("labelled_spans")
            return ()
    return spans


def _label(fields: Fields) -> bool | None:
    """Whether people found the answer desirable; None where they did not say."""
    for name in LABELS:
        value = fields.peek(name)
        if name == "feedback" and as_label(value) is None:
            continue
        if is_empty(value) or is_list(value) or isinstance(value, Mapping):
            continue
        fields.take(name)
        if (desirable := as_label(value)) is None:
            fields.unknown(name)
        else:
            fields.notes.labels[f"{name}: {str(desirable).lower()}"] += 1
            return desirable
    return None


def as_label(value: Any) -> bool | None:
    """True or False for a yes or no of any kind, 1 and 0 or -1; None for anything else."""
    if isinstance(value, str):
        return WORDS.get(value.strip().casefold(), as_choice(value))
    if isinstance(value, int | float) and value not in (1, 0, -1):
        return None
    return False if value == -1 else as_choice(value)


def _rating(fields: Fields) -> float | None:
    """How good people found the answer, on a scale that the source knows."""
    name = fields.first(RATINGS)
    if name is None:
        return None
    try:
        value = fields.peek(name)
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    fields.take(name)
    if not math.isfinite(number):
        fields.unknown(name)
        return None
    fields.notes.labels[f"{name}: {number:g}"] += 1
    return number


def _is_excluded(fields: Fields) -> bool:
    """Whether a row is given no weight."""
    value = fields.peek("weight")
    if value is None or as_choice(value) is not False:
        return False
    fields.take("weight")
    return True


def _unlearnt(messages: tuple[Message, ...], notes: Notes, why: str) -> tuple[Message, ...]:
    marked = []
    for message in messages:
        if message.role == "assistant" and message.learnt:
            notes.unlearnt[why] += 1
            message = message.model_copy(update={"learnt": False})
        marked.append(message)
    return tuple(marked)
