"""Simulated production traffic for the demo: real conversations, written as inference logs.

What users of a chat model ask (`chitchat-dataset`, conversations that the demo does not train
on), and a topic that it was never trained on: technical questions of `chatterbot-corpus`. The
answers are the corpora's own, as of a service desk.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from data_contracts.digests import digest_json
from tasks.sources import chitchat_rows

TECHNICAL = ("tech_support", "computers", "coding", "ai")
Messages = Sequence[Mapping[str, str]]


def familiar(count: int, seed: int = 11) -> list[Messages]:
    """Conversations of the kind the demo's model is trained on; a few may be the very same."""
    found = [
        row["messages"]
        for row in chitchat_rows()
        if len(row["messages"]) >= 2 and row["messages"][-1]["role"] == "assistant"
    ]
    return random.Random(seed).sample(found, count)


def technical(count: int, seed: int = 11) -> list[Messages]:
    """Distinct technical questions with their answers."""
    distinct = {digest_json([dict(m) for m in one]): one for one in technical_conversations()}
    return random.Random(seed).sample(sorted(distinct.values(), key=str), count)


def technical_conversations() -> Iterator[Messages]:
    folder = resources.files("chatterbot_corpus").joinpath("data", "english")
    for name in TECHNICAL:
        document = yaml.safe_load(folder.joinpath(f"{name}.yml").read_text("utf-8"))
        for turns in document["conversations"]:
            if len(turns) >= 2:
                yield [
                    {"role": "user", "content": str(turns[0])},
                    {"role": "assistant", "content": str(turns[1])},
                ]


def write_hour(folder: Path, conversations: Sequence[Messages], hours_ago: int) -> Path:
    """One file of inference logs: the conversations' last requests, spread over an hour."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(
        hours=hours_ago
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{start:%Y-%m-%dT%H}.jsonl"
    step = timedelta(hours=1) / len(conversations)
    lines = (
        json.dumps(_record(messages, start + number * step, f"{start:%H}-{number}"))
        for number, messages in enumerate(conversations)
    )
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def _record(messages: Messages, at: datetime, name: str) -> dict[str, Any]:
    return {
        "timestamp": at.timestamp(),
        "workload_id": "chat",
        "client_id": "demo",
        "model_version": "service-desk",
        "request": {"model": "service-desk", "messages": list(messages[:-1])},
        "response": {
            "id": f"chatcmpl-{name}",
            "choices": [{"index": 0, "message": dict(messages[-1]), "finish_reason": "stop"}],
        },
    }
