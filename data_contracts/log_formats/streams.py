"""Streamed answers put together: chunks of OpenAI's chat, events of its Responses API, and of
Anthropic's messages, as a list or as the text of server-sent events."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.lenient_json import parse_json

Event = Mapping[str, Any]
END = "[DONE]"
ENDS = ("response.completed", "response.incomplete", "response.failed")
# Where a model's thoughts stand in a delta; servers differ.
THOUGHTS = ("reasoning_content", "reasoning")


# Server-sent events: fields and comments, and then data that is JSON.
EVENTS = re.compile(r"\s*(?:(?:event|id|retry)?:[^\r\n]*[\r\n]+)*data:\s*(?:\{|\[DONE\])")


def is_event_text(text: str) -> bool:
    return EVENTS.match(text) is not None


def events_of_text(text: str) -> list[Any]:
    """The JSON of each server-sent event.

    Raises:
        RowRejected: one of them is not JSON.
    """
    events = []
    for block in text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in block.split("\n") if line[:5] == "data:"]
        data = "\n".join(lines)
        if data and data.strip() != END:
            try:
                events.append(parse_json(data))
            except (ValueError, RecursionError):
                raise RowRejected("response: an event of its stream is not JSON") from None
    return events


def is_stream(items: Sequence[Any]) -> bool:
    """Whether a list holds the parts of one answer rather than messages or items."""
    first = items[0] if items else None
    return isinstance(first, Mapping) and (
        first.get("object") in ("chat.completion.chunk", "text_completion")
        or first.get("choices") is not None
        or str(first.get("type")).startswith(("response.", "message_start", "content_block_"))
        or first.get("error") is not None
    )


def is_chunk(response: Event) -> bool:
    choices = response.get("choices")
    return response.get("object") == "chat.completion.chunk" or (
        isinstance(choices, list | tuple)
        and any(isinstance(choice, Mapping) and choice.get("delta") for choice in choices)
    )


def join_events(events: Sequence[Any]) -> dict[str, Any]:
    """The response that a stream adds up to, in its own API's form.

    `interrupted` is true in it where the stream ended without saying why.

    Raises:
        RowRejected: an event is not an object.
    """
    parts: list[Event] = []
    for event in events:
        if not isinstance(event, Mapping):
            raise RowRejected("response: a chunk of its stream is not an object")
        parts.append(event)
    if failed := next((event for event in parts if event.get("error") is not None), None):
        return dict(failed)
    kinds = {str(event.get("type")) for event in parts}
    if any(kind.startswith("response.") for kind in kinds):
        return join_response_events(parts)
    if kinds & {"message_start", "content_block_start", "content_block_delta"}:
        return join_message_events(parts)
    return join_chunks(parts)


# -- OpenAI's chat and text completions ----------------------------------------------------


class _Choice:
    """One choice as its deltas come in."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, _Call] = {}
        self.finish_reason: Any = None

    def add(self, choice: Event) -> None:
        delta = choice.get("delta")
        if not isinstance(delta, Mapping):
            delta = choice.get("message")
        if not isinstance(delta, Mapping):
            delta = {"content": choice.get("text")}
        for name in ("content", "refusal", *THOUGHTS):
            if isinstance(text := delta.get(name), str):
                self.texts.setdefault(name, []).append(text)
        called = delta.get("tool_calls")
        for position, call in enumerate(called if isinstance(called, list | tuple) else ()):
            if isinstance(call, Mapping):
                number = call.get("index")
                at = number if isinstance(number, int) else position
                self.calls.setdefault(at, _Call()).add(call)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant"}
        message |= {name: "".join(texts) for name, texts in self.texts.items()}
        if self.calls:
            message["tool_calls"] = [call.whole() for _, call in sorted(self.calls.items())]
        return {"index": self.index, "message": message, "finish_reason": self.finish_reason}


class _Call:
    """One call of a tool as its deltas come in: the name once, the arguments in pieces."""

    def __init__(self) -> None:
        self.id: Any = None
        self.name: Any = None
        self.arguments: list[str] = []

    def add(self, delta: Event) -> None:
        self.id = self.id or delta.get("id")
        function = delta.get("function")
        if isinstance(function, Mapping):
            self.name = self.name or function.get("name")
            if isinstance(piece := function.get("arguments"), str):
                self.arguments.append(piece)

    def whole(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


def join_chunks(chunks: Iterable[Event]) -> dict[str, Any]:
    """A chat completion of its chunks; its usage stands in one of them, mostly the last."""
    response: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    for chunk in chunks:
        for name in ("id", "model", "created", "usage"):
            if chunk.get(name) is not None:
                response[name] = chunk[name]
        found = chunk.get("choices")
        for choice in found if isinstance(found, list | tuple) else ():
            if isinstance(choice, Mapping):
                index = choice.get("index")
                at = index if isinstance(index, int) else 0
                choices.setdefault(at, _Choice(at)).add(choice)
    response["choices"] = [choice.whole() for _, choice in sorted(choices.items())]
    response["interrupted"] = all(choice.finish_reason is None for choice in choices.values())
    return response


# -- OpenAI's Responses API ----------------------------------------------------------------


def join_response_events(events: Sequence[Event]) -> dict[str, Any]:
    """The response that the last event carries whole, or what had come when it broke off."""
    for event in reversed(events):
        response = event.get("response")
        if event.get("type") in ENDS and isinstance(response, Mapping):
            return dict(response)
    first: Event = next((r for e in events if isinstance(r := e.get("response"), Mapping)), {})
    done = [e.get("item") for e in events if e.get("type") == "response.output_item.done"]
    texts = [str(e.get("delta")) for e in events if e.get("type") == "response.output_text.delta"]
    if not any(isinstance(item, Mapping) and item.get("type") == "message" for item in done):
        content = [{"type": "output_text", "text": "".join(texts)}]
        done.append({"type": "message", "role": "assistant", "content": content})
    return {**first, "status": None, "output": done, "interrupted": True}


# -- Anthropic's messages ------------------------------------------------------------------

PIECES = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def join_message_events(events: Iterable[Event]) -> dict[str, Any]:
    """A message of its events; the arguments of its tool calls stay JSON text."""
    message: dict[str, Any] = {"type": "message", "role": "assistant"}
    usage: dict[str, Any] = {}
    blocks: dict[Any, dict[str, Any]] = {}
    pieces: dict[Any, list[str]] = {}
    for event in events:
        kind, index = event.get("type"), str(event.get("index"))
        if kind == "message_start" and isinstance(start := event.get("message"), Mapping):
            message |= {k: v for k, v in start.items() if k != "content"}
            usage |= _mapping(start.get("usage"))
        elif kind == "content_block_start":
            blocks[index] = dict(_mapping(event.get("content_block")))
        elif kind == "content_block_delta":
            delta = _mapping(event.get("delta"))
            piece = delta.get(PIECES.get(str(delta.get("type")), ""))
            blocks.setdefault(index, {"type": "text", "text": ""})
            if isinstance(piece, str):
                pieces.setdefault(index, []).append(piece)
        elif kind == "message_delta":
            message |= _mapping(event.get("delta"))
            usage |= _mapping(event.get("usage"))
    for index, block in blocks.items():
        _fill(block, "".join(pieces.get(index, ())))
    message |= {"content": list(blocks.values()), "usage": usage}
    message["interrupted"] = message.get("stop_reason") is None
    return message


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _fill(block: dict[str, Any], text: str) -> None:
    """Put the pieces of a block where its kind has them."""
    if block.get("type") == "tool_use":
        block["input"] = text or block.get("input")
    elif block.get("type") == "thinking":
        block["thinking"] = str(block.get("thinking") or "") + text
    elif block.get("type") == "text":
        block["text"] = str(block.get("text") or "") + text
