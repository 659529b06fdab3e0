"""Single records that once stopped a watch or took minutes, or might, as lines of a log."""

import json
from collections.abc import Iterator
from typing import Any

from tests.logs import NOW, log_row

HOUR = int(NOW.timestamp()) // 3600 * 3600 - 3 * 3600
DEEP = 987


def row(**change: Any) -> dict[str, Any]:
    return {**log_row(HOUR + 7, "what is the matter?", "nothing is"), **change}


def asked(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return row(request={"messages": list(messages), **more})


def answered(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return row(response={"choices": [{"message": message, **more}]})


def nested(depth: int) -> str:
    """Stands for objects within objects, which `as_line` writes: Python's encoder refuses to."""
    return f"<{depth} deep>"


def as_line(made: Any) -> bytes:
    text = json.dumps(made)
    for depth in (DEEP, DEEP // 2):
        inside = '{"a":' * depth + "{}" + "}" * depth
        text = text.replace(json.dumps(nested(depth)), inside)
        text = text.replace(f"<text {depth} deep>", json.dumps(inside)[1:-1])
    return text.encode()


def calls(arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}


def long_talk(turns: int) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": "a"} for n in range(turns)]


HUGE = 10**400
USER = {"role": "user", "content": "hello"}


def odd_rows() -> Iterator[tuple[str, Any]]:
    """(name, row): what is odd about it stands in the name."""
    for number in (HUGE, -HUGE, 2**63, float("nan"), float("inf"), True, "9" * 5000, {}, []):
        for field in ("latency_ms", "feedback", "id", "workload_id", "model_version", "timestamp"):
            yield f"{field}: {str(number)[:9]}", row(**{field: number})
        yield f"tokens: {str(number)[:9]}", row(usage=dict.fromkeys(["prompt_tokens"], number))
    for at in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", -(10**11), 0, "", "9" * 10**6):
        yield f"at {str(at)[:9]}", row(timestamp=at)
    yield "arguments nested deep", answered(calls(nested(DEEP)))
    yield "arguments nested deep, as text", answered(calls(f"<text {DEEP} deep>"))
    yield "arguments of brackets", answered(calls("[" * 100_000))
    yield (
        "deep input of a tool",
        answered(
            {"content": [{"type": "tool_use", "id": "t", "name": "f", "input": nested(DEEP)}]}
        ),
    )
    yield "deep everywhere", row(metadata=nested(DEEP), usage=nested(DEEP), feedback=nested(DEEP))
    yield "deep tools", asked(USER, tools=[nested(DEEP)])
    yield "60,000 turns", row(request={"messages": [*long_talk(60_000), USER]})
    answers = results(20_000)[::-1]
    yield (
        "40,000 calls and answers",
        asked(USER, {"role": "assistant", **many_calls(20_000)}, *answers, USER),
    )
    yield "many choices", row(response={"choices": [{"message": {"content": "a"}}] * 20_000})
    yield "many fields", row(**{f"field{n}": n for n in range(50_000)})
    yield "many chunks", row(response=[{"choices": [{"delta": {"content": "a "}}]}] * 20_000)
    yield "a long word", asked({"role": "user", "content": "a" * 5_000_000})
    for half in ("\ud800", "x\udfff", "\x00", "\x1b[31m", "\u202e"):
        yield f"an id with {half!r}", row(id=half)
        yield f"a question with {half!r}", asked({"role": "user", "content": half})
        yield f"a name with {half!r}", asked({**USER, "name": half})
        yield f"a call with {half!r}", answered(calls(json.dumps({"a": half})))
        yield f"a field with {half!r}", row(**{half: 1})
    for content in (None, "", " ", [], {}, 7, [None], [{}], [{"type": "text"}], [{"type": "x"}]):
        yield f"content {content!r}", asked({"role": "user", "content": content})
        yield f"answer {content!r}", answered({"content": content})
    for broken in (None, "", 7, [], {}, "data: {", "data: [DONE]", [7], [[]], [{"choices": 7}]):
        yield f"request {broken!r}", row(request=broken)
        yield f"response {broken!r}", row(response=broken)
        yield f"choices {broken!r}", row(response={"choices": broken})
        yield f"messages {broken!r}", row(request={"messages": broken})
        yield f"spans {broken!r}", {"resourceSpans": broken}
        yield f"observations {broken!r}", {"timestamp": 1, "observations": broken}
        yield f"MLflow {broken!r}", {"info": {"trace_id": broken}, "data": {"spans": broken}}
        yield f"LiteLLM {broken!r}", {"startTime": 1, "messages": broken, "response": broken}
        yield f"span {broken!r}", {"attributes": {"gen_ai.prompt": broken}, "start_time": broken}


def many_calls(count: int) -> dict[str, Any]:
    made = [{"id": f"c{n}", "function": {"name": "f", "arguments": "{}"}} for n in range(count)]
    return {"tool_calls": made}


def results(count: int) -> list[dict[str, Any]]:
    return [{"role": "tool", "tool_call_id": f"c{n}", "content": ""} for n in range(count)]


RAW = {
    "an array": b"[1, 2, 3]",
    "an array that is not closed": b"[",
    "an object that is not closed": b'{"data": [',
    "null": b"null",
    "a number of 5,000 digits": b"9" * 5000,
    "text": b'"text"',
    "no JSON": b"INFO 2026-09-01 server started",
    "brackets": b"[" * 100_000,
    "no UTF-8": b'{"request": "\xff\xfe"}',
    "NUL": b"\x00" * 100,
    "a key twice": b'{"request": 1, "request": 2, "response": 3}',
    "latency of 401 digits": json.dumps(row()).encode()[:-1]
    + b', "latency_ms": 1'
    + b"0" * 400
    + b"}",
    "latency of 5,000 digits": json.dumps(row()).encode()[:-1]
    + b', "latency_ms": '
    + b"9" * 5000
    + b"}",
}


def poison() -> dict[str, bytes]:
    """{name: line without its end}."""
    return {name: as_line(made) for name, made in odd_rows()} | RAW
