"""One way to name content: sha256 in hex.

For code, settings, weights and scrubbed text. Whoever sees such a digest can try texts until one
fits, so raw text is named by `home_keys.keyed_digest` alone.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel

Json: TypeAlias = str | int | float | bool | Mapping[str, "Json"] | Sequence["Json"] | None


def digest_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def canonical(value: Json) -> bytes:
    """The JSON form in which key order does not matter, as bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def digest_json(value: Json) -> str:
    """Digest of the canonical JSON form."""
    return digest_bytes(canonical(value))


def digest_model(model: BaseModel) -> str:
    return digest_json(model.model_dump(mode="json"))


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """Digest of every file below `folder`, by relative name and content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_json({path.relative_to(folder).as_posix(): digest_file(path) for path in files})
