"""Turns of a conversation, in every form that chat formats give them.

| who says it | written |
|---|---|
| OpenAI | `{role, content, name, tool_calls, tool_call_id, reasoning_content, refusal, weight}` |
| ShareGPT, LLaMA-Factory | `{from, value}`, calls as `function_call`, results as `observation` |
| Anthropic | `{role, content: [text, thinking, tool_use, tool_result]}` |
| Gemini | `{role, parts: [text, functionCall, functionResponse]}` |
| Axolotl, ms-swift | any of them with `train` or `loss` |
| pairs | `{user, assistant}`, `{input, output}` and the like: two turns |
"""

import json
import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.formats.fields import Fields, Notes, is_empty, is_list
from data_contracts.formats.tools import json_text, read_calls
from data_contracts.records import Message, ToolCall

CALL = "call"  # a turn that is one call, or several at once
ROLES = {
    "system": "system",
    "developer": "developer",
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "chatbot", "model", "ai"), "assistant"),
    **dict.fromkeys(("bing", "bard"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
    **dict.fromkeys(("tool_response", "function_response", "tool_result"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), CALL),
}
ROLE_FIELDS = ("role", "from")
CONTENT_FIELDS = ("content", "value", "parts", "text")
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
# What says whether a turn is to be learnt: OpenAI, Axolotl, ms-swift, our own.
LEARNT_FIELDS = ("weight", "train", "training", "loss", "learnt")
TRUE = frozenset({"true", "yes", "1", "1.0"})
FALSE = frozenset({"false", "no", "0", "0.0"})
# Columns and keys that hold what is asked, and what is answered.
QUESTIONS = ("instruction", "prompt", "question", "query", "user", "human", "input", "problem")
ANSWERS = ("output", "response", "completion", "answer", "assistant", "gpt", "bot", "solution")

TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
# What no text model learns from, by words in the names of parts and fields that hold it.
MEDIA = {"image": "images", "audio": "audio", "video": "video", "file": "files"}
MEDIA |= {"document": "files", "inlinedata": "files"}
MEDIA_FIELDS = ("images", "image", "audios", "audio", "videos", "video")


def read_turns(turns: Any, notes: Notes) -> tuple[Message, ...]:
    """Turns of a conversation; `with_call_ids` makes them whole.

    Raises:
        RowRejected: not a list, or a turn in it cannot be read or represented.
    """
    if not is_list(turns):
        raise RowRejected("messages: not a list")
    return tuple(message for turn in turns for message in read_turn(turn, notes))


def read_turn(turn: Any, notes: Notes) -> list[Message]:
    """The messages of one turn: several where it is a pair, or holds results of tools.

    Raises:
        RowRejected: with the rule broken; the turn's text is never part of it.
    """
    if not isinstance(turn, Mapping):
        raise RowRejected("messages: a turn is not an object")
    fields = Fields(turn, notes, "messages.")
    if fields.first(ROLE_FIELDS) is None and fields.first(QUESTIONS) and fields.first(ANSWERS):
        messages = _pair(fields)
    else:
        messages = _messages(fields)
    fields.close()
    return messages


def _pair(fields: Fields) -> list[Message]:
    turns = []
    if "system" in fields:
        turns.append(("system", fields.take("system")))
    turns += [("user", fields.take(*QUESTIONS)), ("assistant", fields.take(*ANSWERS))]
    is_learnt = _is_learnt(fields, "assistant")
    return [
        Message(
            role=role, content=plain_text(text), learnt=is_learnt if role == "assistant" else True
        )
        for role, text in turns
    ]


@dataclass
class Spoken:
    """What is gathered of one turn."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def message(self, role: str, content: str | None = None, **more: Any) -> Message:
        return Message(
            role=role,
            content="\n".join(self.texts) if content is None else content,
            tool_calls=tuple(self.calls),
            reasoning="\n".join(self.reasoning) or None,
            refusal="\n".join(self.refusals) or None,
            **more,
        )


def _messages(fields: Fields) -> list[Message]:
    role = read_role(fields.take(*ROLE_FIELDS))
    refuse_media(fields, "messages")
    spoken = Spoken()
    before: list[Message] = []
    content = fields.take(*CONTENT_FIELDS)
    if role == CALL:
        spoken.calls += read_calls(json_text(content, "messages.function_call"), fields.notes)
        role, content = "assistant", None
    for part in _parts(content):
        _read_part(part, spoken, before, fields.notes)
    spoken.calls += read_calls(fields.take("tool_calls"), fields.notes)
    spoken.calls += read_calls(fields.take("function_call"), fields.notes)
    for name in REASONING_FIELDS:
        spoken.reasoning += _reasoning(fields, name)
    if refusal := _text(fields, "refusal"):
        spoken.refusals.append(refusal)
    message = spoken.message(
        role,
        name=_text(fields, "name"),
        tool_call_id=_text(fields, "tool_call_id"),
        learnt=_is_learnt(fields, role),
    )
    says_nothing = not (spoken.texts or spoken.calls or spoken.refusals or spoken.reasoning)
    if says_nothing and before:
        return before
    if says_nothing and content is None and role != "tool":
        raise RowRejected("messages.content: missing or not text")
    if spoken.calls and role != "assistant":
        raise RowRejected("messages.tool_calls: not the assistant's")
    return [*before, message]


def read_role(value: Any) -> str:
    """Raises RowRejected: missing, or free text, which would pass the scrub unseen."""
    if not isinstance(value, str):
        raise RowRejected("messages.role: missing or not text")
    role = ROLES.get(value.strip().casefold().replace("-", "_"))
    if role is None:
        raise RowRejected("messages.role: no such role")
    return role


def _parts(content: Any) -> Iterable[Any]:
    if content is None:
        return ()
    if isinstance(content, Mapping) and is_list(content.get("parts")):
        return list(content["parts"])
    return list(content) if is_list(content) else (content,)


def _read_part(part: Any, spoken: Spoken, before: list[Message], notes: Notes) -> None:
    """Add one part of a turn's content to what is spoken, or results of tools to `before`."""
    if isinstance(part, str):
        spoken.texts.append(part)
        return
    if not isinstance(part, Mapping):
        raise RowRejected("messages.content: missing or not text")
    fields = Fields(part, notes, "messages.content.")
    kind = fields.take("type")
    if kind is None:
        kind = _gemini_kind(part)
    if kind in TEXT_PARTS:
        text = fields.take("text")
        spoken.texts.append(plain_text(text.get("value") if isinstance(text, Mapping) else text))
    elif kind == "thinking":
        spoken.reasoning.append(plain_text(fields.take("thinking")))
    elif kind == "refusal":
        spoken.refusals.append(plain_text(fields.take("refusal")))
    elif kind == "tool_use":
        spoken.calls += read_calls([part], notes)
        return
    elif kind == "functionCall":
        spoken.calls += read_calls([fields.take(kind)], notes)
    elif kind in ("tool_result", "functionResponse"):
        if any(spoken.texts):
            before.append(spoken.message("user"))
            spoken.texts = []
        before.append(_tool_result(fields, kind, notes))
    elif kind == "redacted_thinking":
        pass  # encrypted: its `data` is counted as unread
    else:
        raise RowRejected(f"messages.content: {_media(kind)} cannot be represented")
    fields.close()


def _gemini_kind(part: Mapping[str, Any]) -> str:
    """The kind of a part that does not name it."""
    kinds = ("text", "functionCall", "functionResponse", "inlineData", "fileData")
    return next((kind for kind in kinds if part.get(kind) is not None), "")


def _media(kind: Any) -> str:
    word = kind.casefold() if isinstance(kind, str) else ""
    return next((medium for part, medium in MEDIA.items() if part in word), "an unknown kind")


def refuse_media(fields: Fields, place: str) -> None:
    """Raises RowRejected: a field holds images, sound or the like."""
    if (name := fields.first(MEDIA_FIELDS)) is not None:
        raise RowRejected(f"{place}: {_media(name)} cannot be represented")


def _tool_result(fields: Fields, kind: str, notes: Notes) -> Message:
    if kind == "functionResponse":
        fields = Fields(fields.take(kind), notes, "messages.content.functionResponse.")
        answer = json.dumps(fields.take("response"), ensure_ascii=False, default=str)
        message = Message(role="tool", name=_text(fields, "name"), content=answer)
        fields.close()
        return message
    inner = Spoken()
    for part in _parts(fields.take("content")):
        _read_part(part, inner, [], notes)
    return Message(
        role="tool",
        content="\n".join(inner.texts),
        tool_call_id=_text(fields, "tool_use_id"),
    )


def plain_text(value: Any) -> str:
    """Raises RowRejected: neither text nor null."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowRejected("messages.content: missing or not text")
    return value


def _reasoning(fields: Fields, name: str) -> Iterator[str]:
    value = fields.take(name)
    for part in value if is_list(value) else (value,):
        if isinstance(part, Mapping):
            part = part.get("text") or part.get("thinking")
        if isinstance(part, str):
            if part:
                yield part
        elif part is not None:
            fields.unknown(name)


def _text(fields: Fields, name: str) -> str | None:
    value = fields.take(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        fields.unknown(name)
        return None
    return value or None


# -- whether it is to be learnt --------------------------------------------------------------


def _is_learnt(fields: Fields, role: str) -> bool:
    """Whether no field excludes the turn from training; the exclusion is noted."""
    excluded_by = None
    for name in LEARNT_FIELDS:
        value = fields.peek(name)
        if is_empty(value) and not isinstance(value, float):
            continue
        choice = as_choice(value)
        if name == "loss" and not isinstance(value, bool):
            continue  # a measured loss says nothing of what is to be learnt
        fields.take(name)
        if choice is None or (isinstance(value, int | float) and value not in (0, 1)):
            fields.unknown(name)  # a weight between is no choice: the turn is learnt whole
        if choice is False:
            excluded_by = name
        elif choice and role != "assistant" and name in ("train", "training"):
            # Axolotl would learn it; here the assistant's turns alone are.
            fields.notes.unlearnt[f"{name}: true on a turn of another role"] += 1
    if _is_excluded_in_detail(fields):
        excluded_by = "train_detail"
    if excluded_by is None or role != "assistant":
        return True
    said = "0" if excluded_by == "weight" else "false"
    fields.notes.unlearnt[f"{excluded_by}: {said}"] += 1
    return False


def _is_excluded_in_detail(fields: Fields) -> bool:
    """Axolotl's `train_detail` says it of pieces of a turn."""
    pieces = fields.take("train_detail")
    if is_empty(pieces):
        return False
    choices = {
        as_choice(piece.get("train")) if isinstance(piece, Mapping) else None
        for piece in (pieces if is_list(pieces) else [])
    }
    if choices == {False}:
        return True
    if choices == {True}:
        return False
    raise RowRejected("messages.train_detail: a turn cannot be learnt in part")


def as_choice(value: Any) -> bool | None:
    """True or False as people write them; None if it is neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if not math.isfinite(value) or value < 0:
            return None
        return value > 0
    text = value.strip().casefold() if isinstance(value, str) else ""
    return True if text in TRUE else False if text in FALSE else None


# -- calls and their results -----------------------------------------------------------------


def with_call_ids(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages with ids for calls that lack one, and results that refer to them in order.

    Some templates require an id of nine letters and digits; formats without any exist.
    """
    linked: list[Message] = []
    waiting = Waiting()
    number = 0
    for message in messages:
        if message.role == "assistant":
            calls = []
            for call in message.tool_calls:
                number += 1
                calls.append(call if call.id else call.model_copy(update={"id": _id(number)}))
            waiting.add(calls)
            if tuple(calls) != message.tool_calls:
                message = message.model_copy(update={"tool_calls": tuple(calls)})
        elif message.role == "tool":
            call_id = waiting.answered_by(message)
            if message.tool_call_id is None and call_id is not None:
                message = message.model_copy(update={"tool_call_id": call_id})
        linked.append(message)
    return tuple(linked)


def _id(number: int) -> str:
    return f"call{number:05}"


class Waiting:
    """Calls without a result yet, in order. Finding one takes no longer if there are many."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._by_name: dict[str, deque[str]] = {}

    def add(self, calls: Iterable[ToolCall]) -> None:
        for call in calls:
            if call.id is not None:
                self._ids[call.id] = None
                self._by_name.setdefault(call.name, deque()).append(call.id)

    def answered_by(self, result: Message) -> str | None:
        """The id of the call that a tool's message is the result of, which waits no more.

        The one that it names; or else the oldest of its function, or of any.
        """
        call_id = result.tool_call_id
        if call_id is None:
            call_id = self._oldest(result.name) or next(iter(self._ids), None)
        if call_id is None or call_id not in self._ids:
            return None
        del self._ids[call_id]
        return call_id

    def _oldest(self, name: str | None) -> str | None:
        queue = self._by_name.get(name or "", deque())
        while queue and queue[0] not in self._ids:
            queue.popleft()
        return queue[0] if queue else None
