"""One way to name content: sha256 in hex."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel

Json: TypeAlias = str | int | float | bool | Mapping[str, "Json"] | Sequence["Json"] | None


def digest_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_json(value: Json) -> str:
    """Digest of the canonical JSON form, so that key order does not matter."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digest_bytes(canonical.encode("utf-8", "surrogatepass"))


def digest_model(model: BaseModel) -> str:
    return digest_json(model.model_dump(mode="json"))


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """Digest of every file below `folder`, by relative name and content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_json({path.relative_to(folder).as_posix(): digest_file(path) for path in files})


@cache
def code_version(*modules: str) -> str:
    """Digest of the source of modules or whole packages: changes when their code does."""
    sources: dict[str, str] = {}
    for module in modules:
        package, _, name = module.rpartition(".")
        root = resources.files(package or module)
        path = root.joinpath(name + ".py") if package else root
        if path.is_file():
            sources[module] = digest_bytes(path.read_bytes())
        else:
            folder = root.joinpath(name) if package else root
            for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
                if file.is_file() and not file.name.endswith(".pyc"):
                    sources[f"{module}/{file.name}"] = digest_bytes(file.read_bytes())
    return digest_json(sources)
