"""An inference log record: a request to a model, its response, and how it went.

Records of several formats are read (`data_contracts.log_formats`): an OpenAI request and response
side by side, with

| field | |
|---|---|
| `timestamp` | when, in any form that `data_contracts.timestamps` reads |
| `request`, `response` | objects as sent and received, their JSON text, or streamed chunks |
| `workload_id`, `model_version`, `latency_ms` | optional |
| `usage` | optional; otherwise the response's own |
| `feedback` | optional: a number, true/false, a thumb, or `{"score": ..., "correction": ...}` |

as NVIDIA's Data Flywheel logs it; and what LiteLLM, Langfuse, MLflow and OpenTelemetry write.

Only a missing question, answer or time loses a record. An optional field that cannot be what it
should be is unknown, and named. Who asked is read by `data_contracts.log_users`, as a pseudonym.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from data_contracts.errors import RowRejected
from data_contracts.formats import Notes, Reading, parse_message, require_unicode
from data_contracts.formats.fields import is_empty
from data_contracts.formats.tools import read_tools
from data_contracts.formats.turns import as_choice, read_turn, read_turns, with_call_ids
from data_contracts.log_formats import find_format
from data_contracts.log_formats.exchange import Exchange
from data_contracts.log_formats.fields import LogFields
from data_contracts.records import FinishReason, Message, Record, Served
from data_contracts.timestamps import parse_moment

T = TypeVar("T")

NAME = re.compile(r"[\w.:/@+-]{1,128}")
LONGEST_ID = 256
NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{0,18})?([eE][+-]?\d{1,2})?", re.ASCII)
# The contract's limits: what is outside of them is a mistake of whoever measured.
MOST_TOKENS = 100_000_000
MOST_MILLISECONDS = 86_400_000
MOST_FEEDBACK = 1_000_000
THUMBS = {
    **dict.fromkeys(("up", "thumbsup", "positive", "like", "liked", "good", "👍"), 1.0),
    **dict.fromkeys(("down", "thumbsdown", "negative", "dislike", "disliked", "bad", "👎"), 0.0),
}
FINISH_REASONS: dict[str, FinishReason] = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence", "eos_token", "completed"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
    **dict.fromkeys(("model_context_window_exceeded", "incomplete"), "length"),
    **dict.fromkeys(("tool_calls", "tool_call", "function_call", "tool_use"), "tool_calls"),
    **dict.fromkeys(("content_filter", "safety", "refusal"), "content_filter"),
}
# An answer that ended so is not whole.
CUT_OFF: tuple[FinishReason, ...] = ("length", "interrupted")
SAID = ("content", "refusal", "tool_calls", "function_call", "reasoning_content", "reasoning")
OTHER_CHOICES = "choices beside the one that is used"
NO_LOG = (
    "row: not a log record (request and response, or a record of LiteLLM, Langfuse, MLflow or"
    " OpenTelemetry was expected)"
)


def is_inference_log(row: Mapping[str, Any]) -> bool:
    """Whether a row has the shape of a log record rather than of a conversation."""
    return find_format(row) is not None


def parse_inference_log(row: Mapping[str, Any], *, source: str) -> Reading:
    """Read one log record; its answer becomes the last message. The id of one that brings none is
    empty, until the scrub names it by what is left of it.

    Args:
        row: the decoded row.
        source: name of the file, kept on the record.

    Raises:
        RowRejected: with the rule broken; the row's text is never part of it.
    """
    form = find_format(row)
    if form is None:
        raise RowRejected(NO_LOG)
    fields = LogFields(row, Notes())
    fields.take("client_id")
    exchange = form.read(fields)
    optional = _Optional(fields.notes)
    at = _moment(exchange.times, optional)
    asked = read_turns(exchange.request.messages, fields.notes)
    if not any(message.role == "user" for message in asked):
        raise RowRejected("request.messages: no user message")
    served = _served(exchange, optional)
    messages = with_call_ids((*asked, _answer(exchange, served.finish_reason, fields.notes)))
    identifier = optional.first("id", exchange.ids, _identifier)
    record = Record(
        id=identifier or "",
        messages=messages,
        created_at=at,
        source=source,
        served=served,
        tools=optional.value("tools", exchange.request.tools, _tools),
        parallel_tool_calls=optional.value(
            "parallel_tool_calls", exchange.request.parallel_tool_calls, as_choice
        ),
    )
    require_unicode(record)
    fields.close()
    if exchange.answer.other_choices:
        fields.notes.labels[OTHER_CHOICES] += exchange.answer.other_choices
    return Reading(record=record, readings=fields.notes.readings(form.name))


class _Optional:
    """Reads optional values: those that are not what they should be are noted, and None."""

    def __init__(self, notes: Notes) -> None:
        self.unknown = notes.unknown

    def value(self, field: str, value: Any, read: Callable[[Any], T | None]) -> T | None:
        return self.first(field, (value,), read)

    def first(self, field: str, values: Iterable[Any], read: Callable[[Any], T | None]) -> T | None:
        """The first that can be read; noted if there are some and none can."""
        given = [value for value in values if value is not None]
        for value in given:
            if (found := read(value)) is not None:
                return found
        if given:
            self.unknown[field] += 1
        return None


def _moment(times: Iterable[Any], optional: _Optional) -> str:
    broken: RowRejected | None = None
    for time in times:
        try:
            if (moment := parse_moment(time, "timestamp")) is not None:
                if broken is not None:
                    optional.unknown["timestamp"] += 1
                return moment
        except RowRejected as rejected:
            broken = broken or rejected
    raise broken or RowRejected("timestamp: missing")


def _served(exchange: Exchange, optional: _Optional) -> Served:
    answer, usage = exchange.answer, exchange.usage
    finish_reason = optional.value("finish_reason", answer.finish_reason, _finish_reason)
    if answer.interrupted and finish_reason is None:
        finish_reason = "interrupted"
    return Served(
        workload=optional.value("workload_id", exchange.workload, _name),
        model_version=optional.first("model_version", exchange.models, _name),
        prompt_tokens=optional.value("usage.prompt_tokens", usage.prompt_tokens, _tokens),
        completion_tokens=optional.value(
            "usage.completion_tokens", usage.completion_tokens, _tokens
        ),
        latency_ms=optional.value("latency_ms", exchange.latency_ms, _milliseconds),
        feedback=optional.value("feedback", exchange.feedback, _feedback),
        correction=optional.value("feedback.correction", exchange.correction, _correction),
        finish_reason=finish_reason,
    )


def _answer(exchange: Exchange, finish_reason: FinishReason | None, notes: Notes) -> Message:
    """The answer; one that was cut off is not to be learnt.

    Raises:
        RowRejected: there is nothing in it.
    """
    turn = {**exchange.answer.message, "role": "assistant"}
    if finish_reason == "content_filter" and not any(not is_empty(turn.get(p)) for p in SAID):
        raise RowRejected("response: withheld by a content filter")
    messages = read_turn(turn, notes)
    if len(messages) != 1:
        raise RowRejected("response: several messages")
    if finish_reason not in CUT_OFF:
        return messages[0]
    notes.unlearnt[f"finish_reason: {finish_reason}"] += 1
    return messages[0].model_copy(update={"learnt": False})


# -- what optional fields must be; None for what they are not ---------------------------------


def _number(value: Any, least: float, most: float) -> float | None:
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    if not isinstance(value, int | float) or not least <= value <= most:  # NaN is not either
        return None
    return float(value)


def _tokens(value: Any) -> int | None:
    number = None if isinstance(value, bool) else _number(value, 0, MOST_TOKENS)
    return None if number is None else int(number)


def _milliseconds(value: Any) -> float | None:
    return None if isinstance(value, bool) else _number(value, 0, MOST_MILLISECONDS)


def _feedback(value: Any) -> float | None:
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        value = value.get("score", value.get("value"))
    if isinstance(value, str):
        value = THUMBS.get(re.sub(r"[\s_-]", "", value[:32]).casefold(), value)
    return _number(value, -MOST_FEEDBACK, MOST_FEEDBACK)


def _correction(value: Any) -> str | None:
    try:
        text = parse_message({"role": "assistant", "content": value}).content
    except RowRejected:
        return None
    return text if text and _is_unicode(text) else None


def _finish_reason(value: Any) -> FinishReason | None:
    return FINISH_REASONS.get(value.casefold()) if isinstance(value, str) else None


def _name(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return _short(value, NAME)


def _identifier(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return _short(value, None)


def _short(value: str | int, form: re.Pattern[str] | None) -> str | None:
    if isinstance(value, int):
        value = str(value) if abs(value) < 10**40 else ""
    printable = value.isprintable() and 0 < len(value) <= LONGEST_ID
    return value if printable and (form is None or form.fullmatch(value)) else None


def _tools(value: Any) -> str | None:
    try:
        text = read_tools(value)
    except RowRejected:
        return None
    return text if text and _is_unicode(text) else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
