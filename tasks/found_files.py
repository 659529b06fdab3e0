"""Which files a path stands for, and which of them are read.

A file is told by its name: JSONL (`.jsonl`, `.ndjson`, `.json`, `.log`) or Parquet, compressed or
rotated (`app.jsonl.1`, `app.log.2.gz`, `app.jsonl-20260901`). What is passed over in a folder is
named with the reason.
"""

import re
from pathlib import Path
from typing import Any, Literal

import fsspec
from pydantic import BaseModel, ConfigDict

from data_contracts.errors import DataError
from data_contracts.printable import is_text
from data_contracts.snapshots import MANIFEST, QUARANTINE
from tasks.paths import shown

FileFormat = Literal["jsonl", "parquet"]
SUFFIXES: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".log": "jsonl",
    ".parquet": "parquet",
}
# What compression, rotation and dates add to a name; possibly several, in any order.
ADDED = re.compile(r"(\.(gz|bz2|xz|zst|lz4|old|bak|prev)|[._-]\d[\dt_.:-]*z?)$")
OWN = (MANIFEST, QUARANTINE)


class FoundFiles(BaseModel):
    """URIs of the files to read, sorted; and the others, each with the reason."""

    model_config = ConfigDict(frozen=True)

    uris: tuple[str, ...]
    passed_over: dict[str, str]


def file_format(name: str) -> FileFormat | None:
    """What a file holds by its name; None if it is nothing that is read."""
    base = name.rpartition("/")[2].lower()
    while True:
        for suffix, kind in SUFFIXES.items():
            if base.endswith(suffix):
                return kind
        shorter = ADDED.sub("", base)
        if shorter == base:
            return None
        base = shorter


def find_files(path: str) -> FoundFiles:
    """The files that `path` (a file, folder, glob or URL) stands for.

    Raises:
        DataError: nothing is there, or nothing that can be read.
    """
    try:
        fs, root = fsspec.url_to_fs(path)
        found, passed_over = _list(fs, root)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(
            f"cannot look at {shown(path)} ({first_line(error)})",
            "check the address, the network and the credentials",
            transient=isinstance(error, OSError),
        ) from error
    if not found and not passed_over:
        raise DataError(
            f"nothing at {shown(path)}", "check the path given with --data or in data.sources"
        )
    uris = []
    for file, info in sorted(found.items()):
        if (reason := _reason_against(file, info)) is None:
            uris.append(fs.unstrip_protocol(file))
        else:
            passed_over[fs.unstrip_protocol(file)] = reason
    if not uris:
        reason = next(iter(passed_over.values()))
        raise DataError(
            f"no file at {shown(path)} can be read ({reason})",
            f"files must be regular ones and end in {', '.join(SUFFIXES)}",
        )
    if odd := [uri for uri in uris if not is_text(uri)]:
        raise DataError(f"the name of {shown(odd[0])} is not UTF-8", "rename the file")
    return FoundFiles(uris=tuple(uris), passed_over=passed_over)


def _list(fs: Any, root: str) -> tuple[dict[str, Any], dict[str, str]]:
    """({file: what its file system says of it}, {folder that cannot be looked into: why})."""
    closed: dict[str, str] = {}
    if fs.isdir(root):
        local = isinstance(fs, fsspec.get_filesystem_class("file"))

        def note(error: OSError) -> None:
            closed[str(error.filename)] = first_line(error)

        return fs.find(root, detail=True, **({"on_error": note} if local else {})), closed
    if any(character in root for character in "*?["):
        return fs.glob(root, detail=True), closed
    return ({root: fs.info(root)} if fs.exists(root) else {}), closed


def _reason_against(file: str, info: Any) -> str | None:
    """Why a file is not read; None if it is."""
    if info.get("type") == "directory":
        return "a folder"
    # A pipe or a device has no end, and a reader of it may wait for ever.
    if info.get("type") != "file" and not Path(file).is_file():
        return "not a regular file"
    if file.rpartition("/")[2] in OWN:
        return "Evergreen's own"
    if file_format(file) is None:
        return "neither JSONL nor Parquet by its name"
    return None


def first_line(error: BaseException) -> str:
    """What went wrong, without the path: the file's name may be personal data."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return shown((str(error).splitlines() or [type(error).__name__])[0][:200])
