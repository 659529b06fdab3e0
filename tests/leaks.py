"""Looks for planted personal data in every byte that was written, temporary files included."""

import base64
import gzip
import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

# One of each kind that is found by its form, so that none depends on what a detector learnt.
PLANTED = (
    "quentin.planted@example.org",
    "+47 22 85 50 57",
    "4929 3813 3266 4295",
    "GB33BUKB20201555555555",
    "536-22-8727",
    "AKIAQYLPMN5HJ3XCV7RT",
    "sk-proj-9fQ2xLr7VbT4mZk1Yw8NcE3h",
    "1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
    "00:1B:44:11:3A:B7",
    "https://example.org/reset?token=f3a9c1d47be2",
)


def plant(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each value in several rows, amid the first message."""
    for number, row in enumerate(rows):
        if number % 3 == 0:
            value = PLANTED[number // 3 % len(PLANTED)]
            row["messages"][0]["content"] += f" mine is {value} by the way"
    return rows


def everywhere(value: str, number: int) -> dict[str, Any]:
    """A conversation with a value in every place that a row has beside plain content."""
    digits = "".join(filter(str.isdigit, value))
    arguments = {
        "text": value,
        "nested": [{"deep": f"it is {value}!"}],
        value: "as a name of a field",
        "card": int(digits) if len(digits) == 16 else 1,
    }

    def call(identifier: str) -> dict[str, Any]:
        text = json.dumps(arguments)
        return {
            "id": identifier,
            "type": "function",
            "function": {"name": "send_mail", "arguments": text},
        }

    answer = {"role": "assistant", "content": None, "tool_calls": [call(value), call("call_2")]}
    return {
        "id": f"row-{number}",
        "prompt": [
            {"role": "system", "content": "You send mail."},
            {"role": "user", "content": f"send {number}", "name": value},
            answer,
            {"role": "tool", "tool_call_id": value, "content": json.dumps({"sent": {"to": value}})},
            {"role": "tool", "tool_call_id": "call_2", "content": ""},
        ],
        "chosen": [
            {"role": "assistant", "content": "Sent.", "reasoning_content": f"So {value} got it."}
        ],
        "rejected": [
            {"role": "assistant", "content": f"{value} did not get it.", "refusal": value},
            {**answer, "thinking": value},
        ],
        "tools": [offered(value)],
        value: "an unread field",
        "unread": value,
        "created_at": value,
        "label": value,
        "rating": value,
    }


def offered(value: str) -> dict[str, Any]:
    """A function's schema with a value wherever a schema has text."""
    parameters = {
        "type": "object",
        "title": value,
        "properties": {
            "to": {"type": "string", "enum": ["nobody", value], "default": value},
            "cc": {"type": "string", "examples": [{"name": value, "type": value}]},
        },
        "required": ["to"],
    }
    function = {
        "name": "send_mail",
        "description": f"Send it to {value}.",
        "parameters": parameters,
    }
    return {"type": "function", "function": function}


def plant_in_log(row: dict[str, Any], value: str) -> dict[str, Any]:
    """A log record with a value in its fields: who asked, what for, names, tools, reasoning."""
    request, response = row["request"], row["response"]
    asked, (choice,) = request["messages"], response["choices"]
    answer = {**choice["message"], "reasoning_content": f"it is {value} who asks"}
    return {
        **row,
        "client_id": value,
        "metadata": {"user": value, "contact": value},
        "session_id": value,
        value: "an unread field",
        "request": {
            **request,
            "user": value,
            "messages": [{**message, "name": value} for message in asked],
            "tools": [offered(value)],
        },
        "response": {
            **response,
            "system_fingerprint": value,
            "choices": [{**choice, "message": answer, "finish_reason": "stop"}],
        },
    }


def forms(value: str) -> Iterator[bytes]:
    """The value as bytes, as JSON escapes it, and as base64 of it at any offset."""
    plain = value.encode()
    yield plain
    yield value.replace("/", "\\/").encode()
    yield value.encode("utf-16-le")
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + plain)
        # The first and last characters depend on what is beside the value.
        yield coded[(0, 2, 3)[offset] + 2 * bool(offset) : -4]


def needles(values: Iterable[str]) -> dict[bytes, str]:
    """{form: value} of all forms of the values."""
    return {form: value for value in values for form in forms(value)}


NEEDLES = needles(PLANTED)


def leaks_in(content: bytes, wanted: dict[bytes, str] = NEEDLES) -> set[str]:
    return {value for needle, value in wanted.items() if needle in content}


def content_of(path: Path) -> bytes:
    """The file's bytes, and what is compressed in it."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
        content += json.dumps(rows, ensure_ascii=False, default=repr).encode()
        content += repr(pq.read_schema(path).metadata).encode()
    if content[:2] == b"\x1f\x8b":
        content += gzip.decompress(content)
    return content


def leaks(*folders: Path, wanted: dict[bytes, str] = NEEDLES) -> dict[str, set[str]]:
    """{file: planted values in it} of all files below the folders."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    found = {str(path): leaks_in(content_of(path), wanted) for path in files}
    return {path: values for path, values in found.items() if values}


class Lookout:
    """Reads the files below a folder again and again, as they come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.files: set[str] = set()
        self.leaks: dict[str, set[str]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        seen: dict[Path, tuple[int, int]] = {}
        while not self._ended.wait(0.05):
            for path in self.folder.rglob("*"):
                try:
                    stat = path.stat()
                    state = stat.st_mtime_ns, stat.st_size
                    if not path.is_file() or seen.get(path) == state:
                        continue
                    found = leaks_in(path.read_bytes())
                except OSError:
                    continue  # it went while we looked
                seen[path] = state
                self.files.add(str(path))
                if found:
                    self.leaks.setdefault(str(path), set()).update(found)

    def __enter__(self) -> "Lookout":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
