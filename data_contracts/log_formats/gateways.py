"""Logs that gateways and proxies write: one request and its response a record.

- **request and response**: NVIDIA's Data Flywheel, proxies of one's own. Both are objects, their
  JSON text, or what HTTP carried (`body`).
- **LiteLLM**: its standard logging payload, and rows of its spend log.
"""

from collections.abc import Mapping
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.log_formats.answers import ERROR, read_answer, read_usage
from data_contracts.log_formats.exchange import Exchange, Request, Usage
from data_contracts.log_formats.fields import LogFields
from data_contracts.log_formats.questions import read_request
from data_contracts.timestamps import milliseconds_between

TIMES = ("timestamp", "created_at", "time", "@timestamp", "ts", "request_time", "start_time")
# What LiteLLM writes in the place of text where it is told to keep none.
REDACTED = "redacted-by-litellm"


def has_request_and_response(row: Mapping[str, Any]) -> bool:
    return row.get("request") is not None and (
        row.get("response") is not None or row.get("error") is not None
    )


def read_request_and_response(row: LogFields) -> Exchange:
    """Raises RowRejected: no question or no answer in it."""
    if "response" not in row:
        raise RowRejected(ERROR)
    request = read_request(row.take("request"), row)
    answer = read_answer(row.take("response"), row)
    feedback = row.take("feedback")
    correction = None
    if isinstance(feedback, Mapping):
        given = row.inner("feedback")
        feedback, correction = given.take("score", "value", "rating"), given.take("correction")
    return Exchange(
        request,
        answer,
        times=(*(row.take(name) for name in TIMES), answer.created),
        ids=(row.take("id", "request_id"), answer.id),
        models=(row.take("model_version"), answer.model, row.take("model"), request.model),
        workload=row.take("workload_id"),
        usage=read_usage(row.inner("usage")).or_else(answer.usage),
        latency_ms=row.take("latency_ms", "duration_ms", "execution_duration"),
        feedback=feedback,
        correction=correction,
    )


def is_litellm(row: Mapping[str, Any]) -> bool:
    return (
        row.get("startTime") is not None
        and row.get("messages", row.get("proxy_server_request")) is not None
        and ("response" in row or row.get("call_type") is not None)
    )


def read_litellm(row: LogFields) -> Exchange:
    """Raises RowRejected: the call failed, or its text was not kept."""
    if row.take("status") == "failure" or row.take("error_str"):
        raise RowRejected(ERROR)
    asked = row.take("messages") or row.take("proxy_server_request")
    request = read_request(asked, row, "messages")
    answer = read_answer(row.take("response"), row)
    if REDACTED in (answer.message.get("content"), *map(_content, request.messages)):
        raise RowRejected("messages: LiteLLM was told not to keep them")
    settings = row.inner("model_parameters")
    tools = request.tools or settings.take("tools")
    parallel = settings.take("parallel_tool_calls")
    start, end = row.take("startTime"), row.take("endTime")
    return Exchange(
        Request(request.messages, request.model, tools, request.parallel_tool_calls or parallel),
        answer,
        times=(start, answer.created),
        ids=(row.take("id", "request_id"), answer.id),
        models=(answer.model, row.take("model")),
        workload=row.take("model_group"),
        usage=Usage(row.take("prompt_tokens"), row.take("completion_tokens")),
        latency_ms=milliseconds_between(start, end),
    )


def _content(message: Any) -> Any:
    return message.get("content") if isinstance(message, Mapping) else None
