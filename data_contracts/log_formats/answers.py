"""What was answered, in whatever form a response has.

| form | told by |
|---|---|
| OpenAI chat completion, text completion | `choices` with `message` or `text` |
| the same streamed | a chunk, a list of chunks, or the text of server-sent events |
| OpenAI Responses API | `output`, a list of items |
| Anthropic message | `content`, a list of blocks |
| a message, or a list that ends with one | `role` and `content` |
| Ollama, Text Generation Inference | `message`; `generated_text` |
| text | text that is not JSON |
"""

from collections.abc import Mapping
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.formats.fields import is_list
from data_contracts.lenient_json import parse_json
from data_contracts.log_formats.exchange import Answer, Usage
from data_contracts.log_formats.fields import LogFields
from data_contracts.log_formats.items import turns_of_items
from data_contracts.log_formats.streams import (
    events_of_text,
    is_chunk,
    is_event_text,
    is_stream,
    join_events,
)

ERROR = "response: an error, not an answer"
NO_ANSWER = "response: no answer in it (choices, output, content, message or text was expected)"
TEXTS = ("content", "text", "generated_text", "output", "completion")
MESSAGE = (
    *("content", "tool_calls", "function_call", "refusal"),
    *("reasoning_content", "reasoning", "thinking"),
)
# HTTP's statuses of requests that failed.
FAILED_STATUS = 400


def read_answer(value: Any, record: LogFields, name: str = "response") -> Answer:
    """The answer that field `name` of a record holds.

    Raises:
        RowRejected: there is none: an error, nothing, or a form that is not known.
    """
    value = _decoded(value, name)
    if is_list(value):
        value = join_events(value) if is_stream(value) else _last(list(value))
    elif isinstance(value, Mapping) and is_chunk(value):
        value = join_events([value])
    if isinstance(value, str):
        return Answer({"content": value})
    if not isinstance(value, Mapping):
        raise RowRejected(f"{name}: missing or not an object")
    return _of_object(record.within(value, name), record, name)


def _decoded(value: Any, name: str) -> Any:
    """Text as what it is the text of."""
    if not isinstance(value, str):
        return value
    if is_event_text(value):
        return events_of_text(value)
    if value.lstrip()[:1] not in ("{", "[", '"'):
        return value
    try:
        return parse_json(value)
    except (ValueError, RecursionError):
        raise RowRejected(f"{name}: not JSON") from None


def _last(turns: list[Any]) -> Any:
    """What a list of messages, of the Responses API's items, or of content parts answers."""
    last = turns[-1] if turns else None
    if not isinstance(last, Mapping):
        raise RowRejected(NO_ANSWER)
    if last.get("role") is None and last.get("type") in ("text", "tool_use", "thinking"):
        return {"content": turns}
    if last.get("type") in ("function_call", "message", "reasoning"):
        return {"output": turns}
    return last


def _of_object(response: LogFields, record: LogFields, name: str) -> Answer:
    status, kind = response.take("status_code", "status"), response.take("object", "type")
    failed = status == "failed" or (isinstance(status, int) and status >= FAILED_STATUS)
    if failed or kind == "error" or response.take("error"):
        raise RowRejected(ERROR)
    if "body" in response:  # what a proxy saw of HTTP
        return read_answer(response.take("body"), record, name)
    if response.peek("choices") is not None:
        return _of_choices(response)
    if is_list(response.peek("output")):
        return _of_items(response, status)
    if isinstance(message := response.peek("message"), Mapping):
        response.take("message")
        return _with_rest(response, message, response.take("done_reason", "finish_reason"))
    if "role" in response or is_list(response.peek("content")):
        message = {part: response.take(part) for part in MESSAGE}
        return _with_rest(response, message, response.take("stop_reason", "finish_reason"))
    for text in TEXTS:
        if isinstance(response.peek(text), str):
            return _with_rest(response, {"content": response.take(text)})
    raise RowRejected(NO_ANSWER)


def _of_choices(response: LogFields) -> Answer:
    """The choice of the lowest index; the others are counted."""
    choices = response.take("choices")
    if not is_list(choices) or not len(choices):
        raise RowRejected("response.choices: missing or empty")
    objects = [choice for choice in choices if isinstance(choice, Mapping)]
    if not objects:
        raise RowRejected("response.choices: no message")
    first = response.within(min(objects, key=_index), "choices")
    message = first.take("message")
    if not isinstance(message, Mapping):
        text = first.take("text")
        if not isinstance(text, str):
            raise RowRejected("response.choices: no message")
        message = {"content": text}
    finish_reason = first.take("finish_reason", "stop_reason")
    return _with_rest(response, message, finish_reason, len(choices) - 1)


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _of_items(response: LogFields, status: Any) -> Answer:
    """What the Responses API puts out last, as one message."""
    turns = turns_of_items(response.take("output"), response.note)
    if not turns or turns[-1].get("role") != "assistant":
        raise RowRejected(NO_ANSWER)
    reason = response.inner("incomplete_details").take("reason") or status
    if reason == "completed" and turns[-1].get("tool_calls"):
        reason = "tool_calls"
    return _with_rest(response, turns[-1], reason)


def _with_rest(
    response: LogFields,
    message: Mapping[str, Any],
    finish_reason: Any = None,
    other_choices: int = 0,
) -> Answer:
    response.take("role")
    ollama = Usage(response.take("prompt_eval_count"), response.take("eval_count"))
    return Answer(
        message=message,
        finish_reason=finish_reason,
        interrupted=response.take("interrupted") is True,
        id=response.take("id"),
        model=response.take("model"),
        created=response.take("created", "created_at"),
        usage=read_usage(response.inner("usage")).or_else(ollama),
        other_choices=other_choices,
    )


def read_usage(usage: LogFields) -> Usage:
    """Tokens under the names that OpenAI, Anthropic and Langfuse have for them."""
    for total in ("total_tokens", "total"):  # adds nothing to its parts
        usage.take(total)
    return Usage(
        usage.take("prompt_tokens", "input_tokens", "input"),
        usage.take("completion_tokens", "output_tokens", "output"),
    )
