"""What was asked, in whatever form a request has.

| form | told by |
|---|---|
| OpenAI chat, Anthropic (with `system`) | `messages` |
| OpenAI Responses API (with `instructions`) | `input` |
| text completions | `prompt` |
| text | text that is not JSON |
"""

from collections.abc import Mapping
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.formats.fields import is_empty, is_list
from data_contracts.lenient_json import parse_json
from data_contracts.log_formats.exchange import Request
from data_contracts.log_formats.fields import LogFields
from data_contracts.log_formats.items import Turn, turns_of_items

NO_QUESTION = "request: no question in it (messages, input or prompt was expected)"


def read_request(value: Any, record: LogFields, name: str = "request") -> Request:
    """The request that field `name` of a record holds.

    Raises:
        RowRejected: there is none in it.
    """
    if isinstance(value, str):
        if value.lstrip()[:1] not in ("{", "["):
            return Request([{"role": "user", "content": value}])
        try:
            value = parse_json(value)
        except (ValueError, RecursionError):
            raise RowRejected(f"{name}: not JSON") from None
    if is_list(value):
        return Request(list(value))
    if not isinstance(value, Mapping):
        raise RowRejected(f"{name}: missing or not an object")
    request = record.within(value, name)
    if "body" in request:  # what a proxy saw of HTTP
        return read_request(request.take("body"), record, name)
    return Request(
        messages=[*_system(request), *_messages(request)],
        model=request.take("model"),
        tools=request.take("tools", "functions"),
        parallel_tool_calls=request.take("parallel_tool_calls"),
    )


def _messages(request: LogFields) -> list[Any]:
    if "messages" in request:
        messages = request.take("messages")
        if not is_list(messages):
            raise RowRejected("request.messages: not a list")
        return list(messages)
    if "input" in request:
        asked = request.take("input")
        if isinstance(asked, str):
            return [{"role": "user", "content": asked}]
        return turns_of_items(asked, request.note)
    prompt = request.take("prompt")
    if is_list(prompt) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    raise RowRejected(NO_QUESTION if is_empty(prompt) else "request.prompt: not one text")


def _system(request: LogFields) -> list[Turn]:
    """What stands beside the messages and is said before them."""
    content = request.take("system", "instructions", "system_instruction")
    return [] if is_empty(content) else [{"role": "system", "content": content}]
