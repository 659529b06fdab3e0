"""An inference log record: an OpenAI chat-completions request, its response, and how it went.

| field | |
|---|---|
| `timestamp` | ISO 8601, or (milli)seconds since 1970 |
| `request`, `response` | objects as sent and received, or their JSON text |
| `workload_id`, `model_version`, `latency_ms` | optional |
| `usage` | optional; otherwise the response's own |
| `feedback` | optional: a number, true/false, "up"/"down", or `{"score": ..., "correction": ...}` |

Logs written for NVIDIA's Data Flywheel (`timestamp, workload_id, client_id, request,
response`) are of this shape. Who asked is read by `data_contracts.log_users`, as a pseudonym.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.formats import parse_id, parse_message, parse_messages
from data_contracts.records import (
    Message,
    Record,
    Served,
    parse_moment,
)

NAME = re.compile(r"[\w.:/@+-]{1,128}")
THUMBS = {"up": 1.0, "down": 0.0, "positive": 1.0, "negative": 0.0}


def is_inference_log(row: Mapping[str, Any]) -> bool:
    """Whether a row has the shape of a log record rather than of a conversation."""
    return row.get("request") is not None and row.get("response") is not None


def parse_inference_log(row: Mapping[str, Any], *, source: str) -> Record:
    """Read one log record; its answer becomes the last message. The id of one that brings none is
    empty, until the scrub names it by what is left of it.

    Args:
        row: the decoded row.
        source: name of the file, kept on the record.

    Raises:
        RowRejected: with the rule broken; the row's text is never part of it.
    """
    at = parse_moment(row.get("timestamp"), "timestamp")
    if at is None:
        raise RowRejected("timestamp: missing")
    request, response = _object(row, "request"), _object(row, "response")
    asked = parse_messages(request.get("messages"))
    if not any(message.role == "user" for message in asked):
        raise RowRejected("request.messages: no user message")
    answer = _answer(response)
    messages = (*asked, answer)
    identifier = parse_id(row.get("id")) or parse_id(response.get("id"))
    score, correction = _feedback(row.get("feedback"))
    usage = row.get("usage") if isinstance(row.get("usage"), Mapping) else response.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    return Record(
        id=identifier or "",
        messages=messages,
        created_at=at,
        source=source,
        served=Served(
            workload=_name(row, "workload_id"),
            model_version=_name(row, "model_version") or _name(response, "model"),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            latency_ms=_number(row.get("latency_ms"), "latency_ms"),
            feedback=score,
            correction=correction,
        ),
    )


def _object(row: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = row.get(field)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowRejected(f"{field}: not JSON") from None
    if not isinstance(value, Mapping):
        raise RowRejected(f"{field}: missing or not an object")
    return value


def _answer(response: Mapping[str, Any]) -> Message:
    choices: Any = response.get("choices")
    if (
        not hasattr(choices, "__getitem__")
        or isinstance(choices, str | Mapping)
        or not len(choices)
    ):
        raise RowRejected("response.choices: missing or empty")
    first = choices[0]
    message = first.get("message") if isinstance(first, Mapping) else None
    if not isinstance(message, Mapping):
        raise RowRejected("response.choices: no message")
    return parse_message({**message, "role": "assistant"})


def _feedback(value: Any) -> tuple[float | None, str | None]:
    correction = None
    if isinstance(value, Mapping):
        correction, value = value.get("correction"), value.get("score")
        if correction is not None:
            correction = parse_message({"role": "assistant", "content": correction}).content
    if isinstance(value, str):
        value = THUMBS.get(value.casefold(), value)
    return _number(value, "feedback"), correction


def _number(value: Any, field: str) -> float | None:
    if value is None:
        return None
    # NaN is not equal to itself.
    if not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
        raise RowRejected(f"{field}: not a number")
    return float(value)


def _count(value: Any) -> int | None:
    number = _number(value, "usage")
    return None if number is None else int(number)


def _name(row: Mapping[str, Any], field: str) -> str | None:
    value = row.get(field)
    if value is None:
        return None
    if not isinstance(value, str | int) or not NAME.fullmatch(str(value)):
        raise RowRejected(f"{field}: not a short name")
    return str(value)
