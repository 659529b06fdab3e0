"""Records as rows in OpenAI's chat format; `read_row` reads them as they were."""

import json
from typing import Any

from data_contracts.records import Message, Record


def as_openai(record: Record) -> dict[str, Any]:
    """A row of a JSON Lines file, without the fields that the record lacks."""
    row: dict[str, Any] = {
        "id": record.id,
        "messages": [_as_message(message) for message in record.messages],
        "tools": json.loads(record.tools) if record.tools else None,
        "parallel_tool_calls": record.parallel_tool_calls,
        "rejected": [_as_message(message) for message in record.rejected] or None,
        "label": record.desirable,
        "rating": record.rating,
        "created_at": record.created_at,
        "source": record.source,
        "served": record.served and record.served.model_dump(exclude_none=True),
    }
    return {name: value for name, value in row.items() if value is not None}


def _as_message(message: Message) -> dict[str, Any]:
    chat = message.as_chat()
    if message.refusal is not None:
        chat |= {"content": message.content or None, "refusal": message.refusal}
    if not message.learnt:
        chat["weight"] = 0
    return chat
