"""Spans of OpenTelemetry's conventions for generative AI.

A line of OTLP JSON, as the collector's file exporter writes it, holds many spans or log records;
`spans_of_export` makes a row of each. A row is a span in the form of the SDK's console exporter.
What was said stands, by the age of the instrumentation, in

1. the attributes `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions`,
   of the span or of its event `gen_ai.client.inference.operation.details`;
2. events `gen_ai.system.message`, `gen_ai.user.message`, ..., `gen_ai.choice`;
3. events or attributes `gen_ai.prompt` and `gen_ai.completion`, JSON text;
4. attributes numbered one by one, `gen_ai.prompt.0.content` (OpenLLMetry).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.lenient_json import parse_json
from data_contracts.log_formats.answers import ERROR
from data_contracts.log_formats.exchange import Answer, Exchange, Request, Usage
from data_contracts.log_formats.fields import LogFields
from data_contracts.log_formats.items import Turn, assistant_turn, tool_call, tool_turn
from data_contracts.timestamps import milliseconds_between

NO_CALL = "span: no call of a model"
NOT_RECORDED = "span: what was said was not recorded with it"
EXPORTS = ("resourceSpans", "resource_spans", "resourceLogs", "resource_logs")
DETAILS = "gen_ai.client.inference.operation.details"
FINISH = "finish_reason"
CALLS = frozenset({"chat", "text_completion", "generate_content"})
MESSAGE_EVENT = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
INDEXED = re.compile(r"gen_ai\.(prompt|completion)\.(\d{1,6})\.(\w+)(?:\.(\d{1,6})\.(\w+))?")


# -- OTLP JSON -------------------------------------------------------------------------------


def is_export(document: Any) -> bool:
    return isinstance(document, Mapping) and any(name in document for name in EXPORTS)


def spans_of_export(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each span, and for each call of a model that log records tell of."""
    for whole in _list(document, "resourceSpans", "resource_spans"):
        resource = {"attributes": _attributes(_mapping(whole.get("resource")))}
        for scope in _list(whole, "scopeSpans", "scope_spans"):
            for span in _list(scope, "spans"):
                yield _span(span, resource)
    for whole in _list(document, "resourceLogs", "resource_logs"):
        resource = {"attributes": _attributes(_mapping(whole.get("resource")))}
        for scope in _list(whole, "scopeLogs", "scope_logs"):
            yield from _calls_of_logs(_list(scope, "logRecords", "log_records"), resource)


def _span(span: Mapping[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": span.get("name"),
        "context": {"span_id": span.get("spanId", span.get("span_id"))},
        "start_time": span.get("startTimeUnixNano", span.get("start_time_unix_nano")),
        "end_time": span.get("endTimeUnixNano", span.get("end_time_unix_nano")),
        "status": span.get("status"),
        "attributes": _attributes(span),
        "events": [
            {"name": event.get("name"), "attributes": _attributes(event)}
            for event in _list(span, "events")
        ],
        "resource": resource,
    }


def _calls_of_logs(
    records: Iterable[Mapping[str, Any]], resource: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Log records of one span together are what happened in it."""
    spans: dict[Any, dict[str, Any]] = {}
    for number, record in enumerate(records):
        attributes = _attributes(record)
        name = record.get("eventName") or record.get("event_name") or attributes.get("event.name")
        span_id = record.get("spanId", record.get("span_id"))
        body = plain(record.get("body"))
        at = record.get("timeUnixNano", record.get("time_unix_nano"))
        span = spans.setdefault(
            span_id or number,
            {
                "name": name,
                "context": {"span_id": span_id},
                "start_time": at or record.get("observedTimeUnixNano"),
                "attributes": {},
                "events": [],
                "resource": resource,
            },
        )
        span["attributes"] |= attributes
        span["events"].append({"name": name, "attributes": body if isinstance(body, dict) else {}})
    yield from spans.values()


def _list(value: Mapping[str, Any], *names: str) -> list[Mapping[str, Any]]:
    found = next((value[name] for name in names if value.get(name) is not None), ())
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    """OTLP's list of keys and values, or the object that others write instead."""
    found = owner.get("attributes")
    if isinstance(found, Mapping):
        return dict(found)
    pairs = found if isinstance(found, list) else ()
    return {str(p.get("key")): plain(p.get("value")) for p in pairs if isinstance(p, Mapping)}


def plain(value: Any) -> Any:
    """An `AnyValue` of OTLP as the value that it wraps; whole numbers are text in it."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    if kind in ("stringValue", "boolValue", "doubleValue", "string_value", "bool_value"):
        return inner
    if kind in ("intValue", "int_value"):
        return int(inner) if isinstance(inner, str) and inner[1:18].isdecimal() else inner
    if kind in ("arrayValue", "array_value"):
        return [plain(one) for one in _mapping(inner).get("values") or ()]
    if kind in ("kvlistValue", "kvlist_value"):
        return _attributes({"attributes": _mapping(inner).get("values")})
    return value


# -- One span --------------------------------------------------------------------------------


def is_span(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("attributes"), Mapping) and (
        row.get("start_time") is not None or row.get("context") is not None
    )


def read_span(row: LogFields) -> Exchange:
    """Raises RowRejected: no call of a model, a failed one, or one whose text is not there."""
    attributes, context = row.inner("attributes"), row.inner("context")
    if not any(name.startswith(("gen_ai.", "llm.")) for name in attributes.names()):
        raise RowRejected(NO_CALL)
    operation = attributes.take("gen_ai.operation.name", "llm.request.type")
    if isinstance(operation, str) and operation not in CALLS | {"completion"}:
        raise RowRejected(NO_CALL)
    code = row.inner("status").take("code", "status_code")
    if attributes.take("error.type") or code in (2, "ERROR", "STATUS_CODE_ERROR"):
        raise RowRejected(ERROR)
    turns, answers = _what_was_said(attributes, row.take("events"))
    if not turns or not answers:
        raise RowRejected(NOT_RECORDED)
    finish_reasons = attributes.take("gen_ai.response.finish_reasons")
    told = finish_reasons[0] if isinstance(finish_reasons, list) and finish_reasons else None
    models = attributes.take("gen_ai.response.model"), attributes.take("gen_ai.request.model")
    tools = attributes.take("gen_ai.tool.definitions") or _indexed_tools(attributes)
    start, end = row.take("start_time"), row.take("end_time")
    return Exchange(
        Request(turns, tools=tools),
        Answer(
            message={name: part for name, part in answers[0].items() if name != FINISH},
            finish_reason=answers[0].get(FINISH) or told,
            other_choices=len(answers) - 1,
        ),
        times=(start, end),
        ids=(attributes.take("gen_ai.response.id"), context.take("span_id")),
        models=models,
        workload=row.inner("resource").inner("attributes").take("service.name"),
        usage=Usage(
            attributes.take("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
            attributes.take("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        ),
        latency_ms=milliseconds_between(start, end),
    )


def _what_was_said(attributes: LogFields, events: Any) -> tuple[list[Turn], list[Turn]]:
    """(messages of the request, answers), from wherever the instrumentation put them."""
    happened = [e for e in events if isinstance(e, Mapping)] if isinstance(events, list) else []
    details = next((e for e in happened if e.get("name") == DETAILS), None)
    for source in (attributes, LogFields(_attributes(details or {}), attributes.notes)):
        asked = _decoded(source.take("gen_ai.input.messages"))
        answered = _decoded(source.take("gen_ai.output.messages"))
        system = _decoded(source.take("gen_ai.system_instructions"))
        if asked is not None or answered is not None:
            turns = [*_system(system), *_turns(asked)]
            return turns, _turns(answered)
    turns, answers = _of_events(happened)
    if answers:
        return turns, answers
    found = [attributes, *(LogFields(_attributes(event), attributes.notes) for event in happened)]
    asked, answered = (
        next((value for one in found if (value := _decoded(one.take(name))) is not None), None)
        for name in ("gen_ai.prompt", "gen_ai.completion")
    )
    if answered is not None:
        return _of_text(asked, "user"), _of_text(answered, "assistant")
    return _of_indexed(attributes)


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return parse_json(value)
        except (ValueError, RecursionError):
            raise RowRejected("span: its messages are not JSON") from None
    return value


def _system(instructions: Any) -> list[Turn]:
    parts = instructions if isinstance(instructions, list) else []
    return [{"role": "system", "content": [_part(part) for part in parts]}] if parts else []


def _of_text(value: Any, role: str) -> list[Turn]:
    return [{"role": role, "content": value}] if isinstance(value, str) else _turns(value)


def _turns(messages: Any) -> list[Turn]:
    found = messages if isinstance(messages, Sequence) and not isinstance(messages, str) else []
    return [turn for one in found if isinstance(one, Mapping) for turn in _turn(one)]


def _turn(message: Mapping[str, Any]) -> list[Turn]:
    """A message of parts as a chat's; answers of tools are messages of their own."""
    parts = message.get("parts")
    if not isinstance(parts, list):
        return [dict(message)]
    answers, texts, calls, thoughts = [], [], [], []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "tool_call":
            calls.append(tool_call(part.get("id"), part.get("name"), part.get("arguments")))
        elif kind == "tool_call_response":
            found = (part[name] for name in ("response", "result", "content") if name in part)
            answers.append(tool_turn(part.get("id"), next(found, None)))
        elif kind == "reasoning":
            thoughts.append(part.get("content"))
        else:
            texts.append(_part(part))
    if answers and not (texts or calls or thoughts):
        return answers
    turn = assistant_turn(texts, calls, thoughts) | {"role": message.get("role")}
    return [*answers, turn | {FINISH: message.get(FINISH)}]


def _part(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") == "text":
        return {"type": "text", "text": part.get("content")}
    return part


def _of_events(events: Iterable[Mapping[str, Any]]) -> tuple[list[Turn], list[Turn]]:
    """One event a message; what it says stands in its attributes or its body."""
    turns: list[Turn] = []
    choices: list[tuple[int, Turn]] = []
    for event in events:
        name, told = str(event.get("name")), _attributes(event)
        if isinstance(text := told.get("gen_ai.event.content"), str):
            told |= _mapping(_decoded(text))
        if found := MESSAGE_EVENT.fullmatch(name):
            said = {part: told.get(part) for part in ("content", "tool_calls", "name")}
            turns.append({"role": found[1], "tool_call_id": told.get("id"), **said})
        elif name == "gen_ai.choice":
            message = _mapping(_decoded(told.get("message"))) or told
            index = told.get("index")
            said = {part: message.get(part) for part in ("content", "tool_calls")}
            turn = {**said, FINISH: told.get(FINISH)}
            choices.append((index if isinstance(index, int) else 0, turn))
    return turns, [turn for _, turn in sorted(choices, key=lambda choice: choice[0])]


def _of_indexed(attributes: LogFields) -> tuple[list[Turn], list[Turn]]:
    """OpenLLMetry's attributes, one for each value of each message."""
    sides: dict[str, dict[int, Turn]] = {"prompt": {}, "completion": {}}
    calls: dict[tuple[str, int], dict[int, Turn]] = {}
    for name in attributes.names():
        if (found := INDEXED.fullmatch(name)) is None:
            continue
        side, index, value = found[1], int(found[2]), attributes.take(name)
        turn = sides[side].setdefault(index, {"role": "assistant", "content": None})
        if found[3] == "tool_calls" and found[4]:
            of_turn = calls.setdefault((side, index), {})
            of_turn.setdefault(int(found[4]), {})[found[5]] = value
        elif found[3] in ("role", "content", FINISH, "tool_call_id"):
            turn[found[3]] = _decoded(value) if _is_parts(value) else value
    for (side, index), made in calls.items():
        sides[side][index]["tool_calls"] = [
            tool_call(call.get("id"), call.get("name"), call.get("arguments"))
            for _, call in sorted(made.items())
        ]
    asked, answered = ([turn for _, turn in sorted(turns.items())] for turns in sides.values())
    return asked, answered


def _is_parts(value: Any) -> bool:
    """Whether text is the JSON of content parts: an answer may be JSON of its own."""
    return isinstance(value, str) and re.match(r'\s*\[\s*\{\s*"type"', value) is not None


def _indexed_tools(attributes: LogFields) -> Any:
    tools: dict[str, Turn] = {}
    for name in attributes.names():
        if found := re.fullmatch(r"llm\.request\.functions\.(\d{1,6})\.(\w+)", name):
            value = attributes.take(name)
            tools.setdefault(found[1], {})[found[2]] = (
                _decoded(value) if found[2] == "parameters" else value
            )
    return [tools[number] for number in sorted(tools, key=int)] or None
