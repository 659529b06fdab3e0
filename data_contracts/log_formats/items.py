"""Items of OpenAI's Responses API as turns of a chat: messages, calls of functions and what came
of them, reasoning."""

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.formats.fields import is_list
from data_contracts.formats.tools import as_json

Turn = dict[str, Any]
Note = Callable[[object], None]

CALLS = frozenset({"function_call", "custom_tool_call"})
OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})
KNOWN = frozenset({"message", "reasoning"}) | CALLS | OUTPUTS


def turns_of_items(items: Any, note: Note) -> list[Turn]:
    """The turns of a list of items; those of the assistant in a row become one.

    Args:
        note: told the kind of each item that has no place in a chat (a search in the web, say).

    Raises:
        RowRejected: not a list of objects.
    """
    if not is_list(items):
        raise RowRejected("input: neither text nor a list")
    known = []
    for item in items:
        if not isinstance(item, Mapping):
            raise RowRejected("input: an item is not an object")
        if _kind(item) in KNOWN:
            known.append(item)
        else:
            note(_kind(item))
    turns: list[Turn] = []
    for is_assistant, group in groupby(known, key=_by_assistant):
        row = list(group)
        turns += [_assistant_turn(row)] if is_assistant else map(_other_turn, row)
    return turns


def _kind(item: Mapping[str, Any]) -> str:
    return str(item.get("type") or "message")


def _by_assistant(item: Mapping[str, Any]) -> bool:
    kind = _kind(item)
    return kind not in OUTPUTS and (kind != "message" or item.get("role") == "assistant")


def _other_turn(item: Mapping[str, Any]) -> Turn:
    if _kind(item) == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    return tool_turn(item.get("call_id"), item.get("output"))


def tool_turn(call_id: Any, output: Any) -> Turn:
    """What came of a call; what is neither text nor content parts becomes JSON."""
    if not isinstance(output, str) and not (is_list(output) and all(map(_is_part, output))):
        output = "" if output is None else as_json(output, "messages.content")
    return {"role": "tool", "tool_call_id": call_id, "content": output}


def _is_part(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("type"), str)


def _assistant_turn(items: Iterable[Mapping[str, Any]]) -> Turn:
    parts: list[Any] = []
    calls: list[Turn] = []
    thoughts: list[Any] = []
    for item in items:
        kind = _kind(item)
        if kind in CALLS:
            arguments = item.get("arguments", item.get("input"))
            calls.append(tool_call(item.get("call_id"), item.get("name"), arguments))
        elif kind == "reasoning":
            thoughts += [*_list(item.get("summary")), *_list(item.get("content"))]
        elif (content := item.get("content")) is not None:
            parts += content if is_list(content) else [content]
    return assistant_turn(parts, calls, thoughts)


def _list(value: Any) -> list[Any]:
    return list(value) if is_list(value) else []


def assistant_turn(parts: list[Any], calls: list[Turn], thoughts: list[Any]) -> Turn:
    """A turn of content parts, calls and thoughts, without what it lacks."""
    said = {"content": parts, "tool_calls": calls, "reasoning_content": thoughts}
    return {"role": "assistant", **{name: value for name, value in said.items() if value}}


def tool_call(identifier: Any, name: Any, arguments: Any) -> Turn:
    return {"id": identifier, "function": {"name": name, "arguments": arguments}}
