"""Every text of a record, and the record with each of them changed.

The search and the replacement go through a record by the one function here, so that nothing is
replaced that was not searched, and nothing is kept that neither was.
"""

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from data_contracts.formats.fields import IDENTIFIER
from data_contracts.records import Message, Record, ToolCall
from tasks.scrub.json_text import JsonText, json_values

# labelled: a turn in which the source says where personal data stands, by its characters.
Kind = Literal["text", "labelled", "json", "tools", "name", "function name", "call id"]
Change: TypeAlias = Callable[[Kind, str], str]

# A detector of names goes by the words around them, and a name alone has none.
LEAD = "my name is "
SPACES = str.maketrans("_-.", "   ")


def rewrite(record: Record, change: Change) -> Record:
    """The record with every text that people or models wrote changed; its id, source and the
    names of workload and model are left."""
    labelled = {span.turn for span in record.labelled_spans}
    messages = tuple(
        _rewrite_message(message, change, "labelled" if turn in labelled else "text")
        for turn, message in enumerate(record.messages)
    )
    served = record.served
    if served is not None and served.correction is not None:
        served = served.model_copy(update={"correction": change("text", served.correction)})
    return record.model_copy(
        update={
            "messages": messages,
            "served": served,
            "rejected": tuple(_rewrite_message(one, change, "text") for one in record.rejected),
            "tools": record.tools and change("tools", record.tools),
            "labelled_spans": (),
        }
    )


def _rewrite_message(message: Message, change: Change, kind: Kind) -> Message:
    changed: dict[str, object] = {"content": change(kind, message.content)}
    for field in ("reasoning", "refusal"):
        if text := getattr(message, field):
            changed[field] = change("text", text)
    if message.tool_calls:
        changed["tool_calls"] = tuple(_rewrite_call(call, change) for call in message.tool_calls)
    if message.tool_call_id is not None:
        changed["tool_call_id"] = change("call id", message.tool_call_id)
    if message.name is not None:
        is_function = message.role == "tool"
        changed["name"] = change("function name" if is_function else "name", message.name)
    return message.model_copy(update=changed)


def _rewrite_call(call: ToolCall, change: Change) -> ToolCall:
    return ToolCall(
        id=call.id and change("call id", call.id),
        name=change("function name", call.name),
        arguments=change("json", call.arguments),
    )


def texts_of(record: Record) -> list[tuple[Kind, str]]:
    """Every text of a record, in order."""
    found: list[tuple[Kind, str]] = []

    def note(kind: Kind, text: str) -> str:
        found.append((kind, text))
        return text

    rewrite(record, note)
    return found


def json_of(kind: Kind, text: str) -> JsonText | None:
    """The values of a text that is JSON; None if it is to be searched as it stands."""
    if kind in ("text", "json", "tools"):
        return json_values(text, schema=kind == "tools")
    return None


def searched(texts: Iterable[tuple[Kind, str]]) -> Iterable[str]:
    """What is looked through for personal data, as it is looked through."""
    for kind, text in texts:
        if (json_text := json_of(kind, text)) is not None:
            yield json_text.searched
        elif not is_structure(kind, text):
            yield as_searched(kind, text)


def is_structure(kind: Kind, text: str) -> bool:
    """Whether a text says what something is called, and nothing of anybody."""
    return kind == "function name" and IDENTIFIER.fullmatch(text) is not None


def as_searched(kind: Kind, text: str) -> str:
    """A text as recognisers understand it best; `lead` characters are before it."""
    if kind != "name":
        return text
    return LEAD + (text.translate(SPACES) if IDENTIFIER.fullmatch(text) else text)


def lead(kind: Kind) -> int:
    """Characters before a text where it is searched."""
    return len(LEAD) if kind == "name" else 0
