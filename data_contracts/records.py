"""A record is one conversation in OpenAI chat message format.

`parse_record` turns one source row of any supported shape into a `Record`, or
raises `RowRejected` with the rule it broke. What a *valid* conversation is (lengths,
who speaks) is the contract's business, not the parser's.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.digests import Json, digest_json
from data_contracts.errors import RowRejected

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

Text = Annotated[str, Field(strict=True)]


class ToolCall(BaseModel):
    """A call of a function by the assistant; `arguments` is JSON text, as the model wrote it."""

    model_config = ConfigDict(frozen=True)

    id: Text | None = None
    name: Text
    arguments: Text


class Message(BaseModel):
    """One turn, with all that the OpenAI chat format says of it.

    `content` is empty where the assistant only calls tools. `reasoning` is what it thought before
    it answered. `learnt` is False for an assistant's turn that the source excludes from training
    (`weight: 0`, the undesirable side of a preference, and the like).
    """

    model_config = ConfigDict(frozen=True)

    role: Text
    content: Text = ""
    name: Text | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: Text | None = None
    reasoning: Text | None = None
    refusal: Text | None = None
    learnt: bool = True

    def as_chat(self) -> dict[str, Any]:
        """The message as chat templates and OpenAI's API take it, without what it lacks."""
        chat: dict[str, Any] = {"role": self.role, "content": self.content or self.refusal or ""}
        if self.name is not None:
            chat["name"] = self.name
        if self.tool_calls:
            chat["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        if self.tool_call_id is not None:
            chat["tool_call_id"] = self.tool_call_id
        if self.reasoning is not None:
            chat["reasoning_content"] = self.reasoning
        return chat

    @property
    def identity(self) -> Json:
        """What was said, for digests: [role, content] of a message that says no more."""
        more = self.model_dump(mode="json", exclude_defaults=True, exclude={"role", "content"})
        return [self.role, self.content, *([more] if more else [])]


class LabelledSpan(BaseModel):
    """Where a source says personal data stands: characters [start, end) of message `turn`."""

    model_config = ConfigDict(frozen=True)

    turn: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(gt=0)
    entity: Text


class Served(BaseModel):
    """How a logged answer, the last message of its record, came about and what was thought of it.

    `feedback` is a score, higher is better (a thumb up is 1, a thumb down 0);
    `correction` is what should have been answered.
    """

    model_config = ConfigDict(frozen=True)

    workload: Text | None = None
    model_version: Text | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    feedback: float | None = None
    correction: Text | None = None


class Record(BaseModel):
    """One conversation. `created_at` is UTC in ISO 8601; `source` names where it came from;
    `served` is there if it was read from an inference log. `tools` is the JSON text of the
    functions offered, a list in OpenAI's form. `rejected` is the end of the conversation that
    people liked less, where the source is a preference pair: kept, never learnt."""

    model_config = ConfigDict(frozen=True)

    id: Text
    messages: tuple[Message, ...]
    created_at: Text | None = None
    source: Text
    labelled_spans: tuple[LabelledSpan, ...] = ()
    served: Served | None = None
    tools: Text | None = None
    parallel_tool_calls: bool | None = None
    rejected: tuple[Message, ...] = ()

    @property
    def content_digest(self) -> str:
        """Digest of who says what, in order: equal for exact duplicates whatever their ids."""
        said = [message.identity for message in self.messages]
        offered: dict[str, Json] = {
            "tools": self.tools,
            "parallel_tool_calls": self.parallel_tool_calls,
            "rejected": [message.identity for message in self.rejected] or None,
        }
        more = {name: value for name, value in offered.items() if value is not None}
        return digest_json([said, more] if more else said)

    @property
    def text(self) -> str:
        return "\n".join(message.content for message in self.messages)


def parse_record(row: Mapping[str, Any], *, source: str, position: int) -> Record:
    """Read one source row.

    Accepts `messages`, `prompt`/`response`, or `instruction`/`input`/`output` columns.
    Other columns are dropped: what the contract does not know cannot be scrubbed.

    Args:
        row: the decoded row.
        source: name of the file or data set, kept on the record.
        position: 0-based position in the source, the id of rows that bring none.

    Raises:
        RowRejected: with the rule broken; the row's text is never part of it.
    """
    messages = _messages(row)
    identifier = parse_id(row.get("id"))
    return Record(
        id=identifier if identifier is not None else f"{source}:{position}",
        messages=messages,
        created_at=parse_moment(row.get("created_at"), "created_at"),
        source=source,
        labelled_spans=_spans(row.get("labelled_spans"), messages),
    )


def parse_id(value: Any) -> str | None:
    """Raises RowRejected: neither a string nor an integer."""
    if value is not None and not isinstance(value, str | int):
        raise RowRejected("id: not a string or integer")
    return None if value is None else str(value)


def parse_messages(turns: Any) -> tuple[Message, ...]:
    """Messages in OpenAI chat format.

    Raises:
        RowRejected: not a list, or a turn in it is broken.
    """
    if not hasattr(turns, "__iter__") or isinstance(turns, str | bytes | Mapping):
        raise RowRejected("messages: not a list")
    return tuple(parse_message(turn) for turn in turns)


def _messages(row: Mapping[str, Any]) -> tuple[Message, ...]:
    if row.get("messages") is not None:
        return parse_messages(row["messages"])
    if "prompt" in row and "response" in row:
        pairs = [("user", row["prompt"]), ("assistant", row["response"])]
    elif "instruction" in row and "output" in row:
        question = row["instruction"]
        if isinstance(question, str) and isinstance(row.get("input"), str) and row["input"].strip():
            question = f"{question}\n\n{row['input']}"
        pairs = [("user", question), ("assistant", row["output"])]
    else:
        raise RowRejected("messages: missing (nor prompt/response, nor instruction/output)")
    return tuple(parse_message({"role": role, "content": content}) for role, content in pairs)


def parse_message(turn: Any) -> Message:
    """One message; text parts are joined, and calls of tools become their JSON.

    Raises:
        RowRejected: with the rule broken.
    """
    if not isinstance(turn, Mapping):
        raise RowRejected("messages: a turn is not an object")
    role, content = turn.get("role"), turn.get("content")
    if not isinstance(role, str):
        raise RowRejected("messages.role: missing or not text")
    if role not in ROLES:  # free text here would pass the scrub unseen
        raise RowRejected("messages.role: no such role")
    if isinstance(content, list):  # OpenAI content parts
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        texts = [part for part in parts if isinstance(part, str)]
        content = "\n".join(texts) if len(texts) == len(content) else None
    if not content and (calls := turn.get("tool_calls")) is not None:
        content = _tool_calls(calls)
    if not isinstance(content, str):
        raise RowRejected("messages.content: missing or not text")
    try:
        f"{role}{content}".encode()
    except UnicodeEncodeError:
        raise RowRejected("messages: invalid Unicode (lone surrogate)") from None
    return Message(role=role, content=content)


def _tool_calls(calls: Any) -> str | None:
    if not hasattr(calls, "__iter__") or isinstance(calls, str | Mapping):
        return None
    functions = [call.get("function") for call in calls if isinstance(call, Mapping)]
    named = [
        {"name": function.get("name"), "arguments": function.get("arguments")}
        for function in functions
        if isinstance(function, Mapping)
    ]
    return json.dumps({"tool_calls": named}, ensure_ascii=False, default=str) if named else None


# Later than the year 5138 in seconds: the number counts milliseconds.
MILLISECONDS = 10**11


def parse_moment(value: Any, field: str) -> str | None:
    """UTC ISO 8601 from an ISO string, (milli)seconds since 1970, or a datetime.

    Raises:
        RowRejected: naming `field`.
    """
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            value = datetime.fromtimestamp(
                value / 1000 if abs(value) >= MILLISECONDS else value, UTC
            )
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        pass  # falls through to the one rejection below
    raise RowRejected(f"{field}: not a timestamp")


def _spans(value: Any, messages: tuple[Message, ...]) -> tuple[LabelledSpan, ...]:
    if value is None:
        return ()
    try:
        spans = tuple(LabelledSpan.model_validate(span) for span in value)
    except (TypeError, ValueError):
        raise RowRejected("labelled_spans: not a list of {turn, start, end, entity}") from None
    for span in spans:
        if span.turn >= len(messages) or span.end > len(messages[span.turn].content):
            raise RowRejected("labelled_spans: outside the text")
    return spans
