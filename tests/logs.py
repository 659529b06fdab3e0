"""Inference logs for the tests."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def log_row(at: float, question: str, answer: str, **more: Any) -> dict[str, Any]:
    """One record in the shape of NVIDIA's Data Flywheel, with what is given on top."""
    return {
        "timestamp": at,
        "workload_id": "chat",
        "client_id": "somebody",
        "request": {"model": "m", "messages": [{"role": "user", "content": question}]},
        "response": {
            "id": f"r-{at}-{question}",
            "choices": [{"message": {"role": "assistant", "content": answer}}],
        },
        **more,
    }


def write_log(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def hour(count: int, hours_ago: int, *, topic: str = "weather") -> list[dict[str, Any]]:
    """`count` distinct records of one hour before NOW's."""
    start = int(NOW.timestamp()) // 3600 * 3600 - 3600 * hours_ago
    return [
        log_row(start + n, f"what about the {topic}, number {hours_ago}-{n}?", f"fine, {n}")
        for n in range(count)
    ]
