"""Functions that a model may call, and its calls of them, from every form that formats write."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.formats.fields import Fields, Notes, is_empty, is_list
from data_contracts.records import ToolCall

# A call's arguments: OpenAI, Anthropic, LangChain and Gemini.
ARGUMENTS = ("arguments", "input", "args", "parameters")
# A function's parameters: OpenAI, Anthropic.
PARAMETERS = ("parameters", "input_schema", "inputSchema")


def read_tools(value: Any) -> str | None:
    """The JSON text of the functions offered, as a list in OpenAI's form; None for none.

    Raises:
        RowRejected: not a list of objects, or text that is no JSON.
    """
    if is_empty(value) or (isinstance(value, str) and not value.strip()):
        return None
    found = json_text(value, "tools")
    if isinstance(found, Mapping):
        found = [found]
    if not is_list(found):
        raise RowRejected("tools: not a list")
    tools = [_as_openai(function) for tool in found for function in _functions(tool)]
    return as_json(tools, "tools") if tools else None


def _functions(tool: Any) -> Iterator[Mapping[str, Any]]:
    tool = json_text(tool, "tools")
    if not isinstance(tool, Mapping):
        raise RowRejected("tools: not objects")
    declared = tool.get("functionDeclarations") or tool.get("function_declarations")
    if declared is None:
        yield tool
        return
    for function in declared if is_list(declared) else [declared]:
        if not isinstance(function, Mapping):
            raise RowRejected("tools: not objects")
        yield function


def _as_openai(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tool as `{type: function, function: {...}}`; one of another type as it is."""
    kind = tool.get("type", "function")
    if isinstance(tool.get("function"), Mapping) or "name" not in tool:
        return {"type": "function", **tool} if "function" in tool else tool
    if kind not in ("function", "custom") or (kind == "custom" and "input_schema" not in tool):
        return tool  # a tool of the provider's own
    function = {name: part for name, part in tool.items() if name != "type"}
    for name in PARAMETERS[1:]:
        if name in function:
            function["parameters"] = function.pop(name)
    return {"type": "function", "function": function}


def read_calls(value: Any, notes: Notes) -> Iterator[ToolCall]:
    """The calls of one turn.

    Raises:
        RowRejected: not calls of functions.
    """
    if is_empty(value):
        return
    calls = json_text(value, "messages.tool_calls")
    for call in calls if is_list(calls) else [calls]:
        call = json_text(call, "messages.tool_calls")
        if not isinstance(call, Mapping):
            raise RowRejected("messages.tool_calls: not objects")
        yield _read_call(call, notes)


def _read_call(call: Mapping[str, Any], notes: Notes) -> ToolCall:
    fields = Fields(call, notes, "messages.tool_calls.")
    fields.take("type")
    identifier = fields.take("id")
    inner = fields.take("function")
    if isinstance(inner, Mapping):
        function = Fields(inner, notes, "messages.tool_calls.function.")
    elif "custom" in fields:
        raise RowRejected("messages.tool_calls: calls with free text cannot be represented")
    else:
        function = fields
        if isinstance(inner, str):
            raise RowRejected("messages.tool_calls: not a call of a function")
    name = function.take("name")
    if not isinstance(name, str) or not name:
        raise RowRejected("messages.tool_calls: a call without a name")
    if not is_empty(identifier) and not isinstance(identifier, str | int):
        fields.unknown("id")
        identifier = None
    made = ToolCall(
        id=None if is_empty(identifier) else str(identifier),
        name=name,
        arguments=_arguments(function.take(*ARGUMENTS)),
    )
    if function is not fields:
        function.close()
    fields.close()
    return made


def _arguments(value: Any) -> str:
    """JSON text, as it is where it is text already."""
    if is_empty(value) or (isinstance(value, str) and not value.strip()):
        return "{}"
    return value if isinstance(value, str) else as_json(value, "messages.tool_calls")


def json_text(value: Any, field: str) -> Any:
    """What a text says in JSON; anything but text as it is.

    Raises:
        RowRejected: it is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise RowRejected(f"{field}: not JSON") from None


def as_json(value: Any, field: str) -> str:
    """JSON text; what JSON has no form for (a moment in time, say) as text.

    Raises:
        RowRejected: nested too deep.
    """
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain)
    except (RecursionError, ValueError, TypeError):
        raise RowRejected(f"{field}: cannot be written as JSON") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if is_list(value) else str(value)
