"""Which Evergreen a home is of: its format, where it was last used, and with which libraries.

| format | release | what it is |
|---|---|---|
| 1 | 0.1.0 | no `format.json`; absolute paths; permissions as the umask said |
| 2 | after 0.1.0 | `format.json`; paths relative to the home; readable by its owner only |
| 3 | | digests of raw text under keys of the home |
"""

import json
import os
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.errors import StackError

FORMAT = 3
FILE = "format.json"
# Beside it while a migration is at work, or after one that was cut off.
UNFINISHED = "migration.json"
# They keep databases in the home, whose tables change with their versions.
LIBRARIES = ("mlflow", "prefect")
# One of these is in every home of format 1 that holds anything.
FORMAT_1 = ("ledger.db", "mlflow/mlflow.db", "snapshots", "windows", "runs", "models")


class HomeFormat(BaseModel):
    """What `format.json` says. `place` and `inode` tell a home from a copy of it."""

    model_config = ConfigDict(frozen=True)

    format: int
    release: str
    place: str
    inode: int
    libraries: dict[str, str]

    @classmethod
    def current(cls, home: Path) -> Self:
        """What this Evergreen writes into this home."""
        return cls(
            format=FORMAT,
            release=_version("evergreen-llm"),
            place=str(home),
            inode=home.stat().st_ino,
            libraries={name: _version(name) for name in LIBRARIES},
        )

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """What is written in the home; None in one that is new, or of format 1.

        Raises:
            StackError: it cannot be read, or a later Evergreen has used this home.
        """
        file = home / FILE
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StackError(
                f"cannot read {file} ({error.strerror})", "make it readable"
            ) from error
        # A later format may say more or less than this one, but always its number and release.
        number, release = _format_of(content)
        if number is not None and number > FORMAT:
            raise later(home, f"format {number} (Evergreen {release})", f"format {FORMAT}")
        try:
            found = cls.model_validate_json(content)
        except ValidationError as error:
            raise StackError(
                f"{file} is damaged", "restore this home from a backup (`evergreen restore`)"
            ) from error
        for name, version in found.libraries.items():
            if name in LIBRARIES and _parts(version) > _parts(_version(name)):
                raise later(home, f"{name} {version}", f"{name} {_version(name)}")
        return found

    def is_current(self, home: Path) -> bool:
        """Whether nothing has to be done before this Evergreen uses the home here."""
        wanted = self.current(home)
        return (self.format, self.place, self.libraries) == (
            wanted.format,
            wanted.place,
            wanted.libraries,
        )

    def write(self, home: Path) -> None:
        partial = home / f".{FILE}.{os.getpid()}.partial"
        partial.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(home / FILE)


def is_unmarked(home: Path) -> bool:
    """Whether a home without `format.json` is of format 1: it holds something already."""
    return any((home / name).exists() for name in FORMAT_1)


def later(what: Path, theirs: str, ours: str) -> StackError:
    """The error of a home, or a backup, of a later Evergreen."""
    return StackError(
        f"{what} was last used with {theirs}, and Evergreen {_version('evergreen-llm')} here has"
        f" {ours}",
        "upgrade Evergreen, or set EVERGREEN_HOME to another folder",
    )


def _format_of(content: bytes) -> tuple[int | None, str]:
    try:
        found = json.loads(content)
        return int(found["format"]), str(found.get("release", "unknown"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, "unknown"


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".") if part.isdigit())


@cache
def _version(package: str) -> str:
    return metadata.version(package)
