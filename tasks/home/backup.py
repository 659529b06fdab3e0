"""A home in one file, made while it is used, and a home made from such a file.

A backup is the home as of the moment its databases were copied: ledger and registry together, while
no promotion can move, then the files. What is given its name when it is whole (snapshots, models,
keys) is taken as it is found; of the rest, what was written after that moment, or is being written,
is left out: nothing in the databases needs it. The file is a tar compressed with zstd:
`backup.json` first, `checksums.json` last, regular files between them.
"""

import hashlib
import io
import json
import os
import sqlite3
import stat
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pyarrow as pa
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import StackError
from data_contracts.home_format import UNFINISHED, HomeFormat
from data_contracts.partial import PREFIX
from data_contracts.workspace import Workspace
from models.spec import METRICS
from tasks.home import databases
from tasks.home.migration import COPIES
from tasks.home.opening import LOCK
from tasks.home.relocation import SERVICES

HEADER, CHECKSUMS = "backup.json", "checksums.json"
# Folders of the home in which everything is whole once it has its name, also when it is made again.
PUBLISHED = ("snapshots", "models", "keys")
# Folders of the home that hold folders of files that belong together, and how far down those are.
UNITS = {"windows": 3, "data_docs": 2, "runs": 2}
# Files up to this size are read whole before they are written, so that none is torn.
WHOLE_BYTES = 64 * 2**20

Progress = Callable[[int, int], None]

# Why something is not in a backup.
AGAIN = "made again when needed (caches, locks, logs of servers, copies of older formats)"
MODELS = "base models and the detector, fetched or trained again when needed"
HALF = "half-written, or written after the databases were copied"
OUTSIDE = "links that lead out of the home"


class Header(BaseModel):
    """`backup.json`. `files` and `bytes` are the most that can follow."""

    model_config = ConfigDict(frozen=True)

    home: HomeFormat
    created_at: datetime
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)


class Saved(BaseModel):
    """What a backup holds. `left_out` counts files by the reason why they are not in it."""

    model_config = ConfigDict(frozen=True)

    file: str
    bytes: int
    files: int
    home_bytes: int
    left_out: dict[str, int]
    holds_keys: bool


class Source(BaseModel):
    """A file to save: its name in the backup, and where its content is.

    It is not whole if it was written at `until`, in nanoseconds since 1970, or later.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    path: Path
    bytes: int
    mode: int
    until: int | None = None


def back_up(
    workspace: Workspace,
    file: Path,
    *,
    without_models: bool = False,
    on_progress: Progress = lambda *_: None,
) -> Saved:
    """Write a home into one file, readable by its owner only. Whoever uses the home goes on.

    Args:
        workspace: the home.
        file: is made; there must be none.
        without_models: leave out base models and the detector.
        on_progress: gets (bytes done, bytes in all).

    Raises:
        StackError: there is no home, the file is there or cannot be written, or a database is
            damaged. Nothing is left of the file then.
    """
    found = _require_home(workspace)
    file = file.absolute()
    _require_new(workspace, file)
    with _one_line(f"the backup {file} cannot be written"), ExitStack() as stack:
        stack.enter_context(FileLock(workspace.home / LOCK))  # no migration meanwhile
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=".partial-backup-", dir=file.parent)
        )
        copied, moment = _copy_databases(workspace, Path(scratch))
        left_out: Counter[str] = Counter()
        sources = [*copied, *_sources(workspace, moment, left_out, without_models=without_models)]
        header = Header(
            home=found,
            created_at=datetime.now(UTC),
            files=len(sources),
            bytes=sum(source.bytes for source in sources),
        )
        partial = Path(scratch) / "backup"
        with _archive(partial) as archive:
            sums = _write(archive, header, sources, on_progress)
        left_out[HALF] += sum(digest is None for digest in sums.values())
        _require_new(workspace, file)  # nobody else has made one meanwhile
        partial.rename(file)
    kept = [name for name, digest in sums.items() if digest is not None]
    return Saved(
        file=str(file),
        bytes=file.stat().st_size,
        files=len(kept),
        home_bytes=header.bytes,
        left_out={reason: count for reason, count in left_out.items() if count},
        holds_keys=any(name.startswith("keys/") for name in kept),
    )


def _require_home(workspace: Workspace) -> HomeFormat:
    home = workspace.home
    if not home.is_dir():
        raise StackError(f"there is no home at {home}", "set EVERGREEN_HOME")
    if (home / UNFINISHED).exists():
        raise StackError(
            f"a migration of {home} was cut off",
            "run `evergreen status`, which takes it back, first",
        )
    found = HomeFormat.read(home)
    if found is not None:
        return found
    return HomeFormat.current(home).model_copy(update={"format": 1, "libraries": {}})


def _require_new(workspace: Workspace, file: Path) -> None:
    if file.exists():
        raise StackError(f"{file} is there already", "name another file")
    if not file.parent.is_dir():
        raise StackError(f"there is no folder {file.parent}", "create it first")
    if file.parent.resolve().is_relative_to(workspace.home):
        raise StackError(f"{file} would be in the home itself", "name a file on another disk")


def _copy_databases(workspace: Workspace, scratch: Path) -> tuple[list[Source], int]:
    """Copies of the databases, and the moment after which files are of a later state.

    The ledger is kept from others meanwhile: an alias of the registry moves only under its lock.
    """
    home = workspace.home
    ledger = databases.ledger_file(workspace)
    sources = []
    with ExitStack() as stack:
        if ledger.is_file():
            stack.enter_context(databases.writing(ledger))
        for file in databases.existing(workspace):
            if file == databases.prefect_file(workspace):
                stack.close()  # nothing in the others depends on it
            name = file.relative_to(home).as_posix()
            databases.copy(file, scratch / name)
            sources.append(_source(name, scratch / name))
    time.sleep(0.05)  # longer than a tick of the clock that files are dated by
    marker = home / f".backup-{os.getpid()}"
    marker.touch()
    try:
        return sources, marker.stat().st_mtime_ns
    finally:
        marker.unlink()


def _source(name: str, path: Path, until: int | None = None) -> Source:
    found = path.stat()
    mode = 0o700 if found.st_mode & stat.S_IXUSR else 0o600
    return Source(name=name, path=path, bytes=found.st_size, mode=mode, until=until)


def _sources(
    workspace: Workspace, moment: int, left_out: Counter[str], *, without_models: bool
) -> Iterator[Source]:
    """The files to save besides the databases; the others are counted in `left_out`."""
    home = workspace.home
    copied = {
        file.with_name(file.name + end)
        for file in databases.existing(workspace)
        for end in ("", *databases.SIDE_FILES)
    }
    sources, torn = [], set[Path]()
    for path in _files(home, left_out):
        if path in copied:
            continue
        name = path.relative_to(home)
        until = None if name.parts[0] in PUBLISHED else moment
        reason = _reason_to_leave_out(home, name, without_models=without_models)
        if reason is None:
            reason = _reason_not_to_read(home, path, until)
        if reason is None:
            sources.append(_source(name.as_posix(), path, until))
            continue
        left_out[reason] += 1
        if reason == HALF:
            torn.add(_unit(name))
    for source in sources:
        if _unit(Path(source.name)) in torn:
            left_out[HALF] += 1
        else:
            yield source


def _unit(name: Path) -> Path:
    """What a file belongs to: it is saved with all of that, or not at all."""
    return Path(*name.parts[: UNITS.get(name.parts[0], len(name.parts))])


def _files(home: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Everything below the home but folders. A folder of the home itself may be a link to another
    disk; links to folders further down are not followed."""
    for top in sorted(home.iterdir()):
        if not top.is_dir():
            yield top
            continue
        for folder, folders, files in os.walk(top):
            yield from (Path(folder) / name for name in sorted(files))
            for name in sorted(folders):
                if (Path(folder) / name).is_symlink():
                    left_out[OUTSIDE] += 1
                elif name.startswith(PREFIX):
                    folders.remove(name)
                    left_out[HALF] += 1


def _reason_to_leave_out(home: Path, name: Path, *, without_models: bool) -> str | None:
    """What the name alone says."""
    first, last = name.parts[0], name.name
    if first in ("cache", COPIES, SERVICES) or first.startswith("."):
        return AGAIN
    if last.endswith(".lock") or last in ("server.log", "runner.log"):
        return AGAIN
    if first == "models" and len(name.parts) > 2:
        # The Hugging Face hub's client keeps each file twice: under its digest, and as a link.
        if name.parts[1] == "hub" and "blobs" in name.parts:
            return AGAIN
        if without_models:
            return MODELS
    if first == "runs" and name.parts[1].startswith("train-"):
        return None if (home / Path(*name.parts[:2]) / METRICS).is_file() else HALF
    return HALF if last.endswith(".partial") else None


def _reason_not_to_read(home: Path, path: Path, until: int | None) -> str | None:
    """What the file itself says."""
    try:
        found = path.stat()
        target = path.resolve(strict=True)
    except OSError:
        return OUTSIDE if path.is_symlink() else HALF
    top = home / path.relative_to(home).parts[0]
    if not (target.is_relative_to(home) or target.is_relative_to(top.resolve())):
        return OUTSIDE
    if not stat.S_ISREG(found.st_mode):
        return AGAIN  # a socket or the like
    return HALF if until is not None and found.st_mtime_ns >= until else None


@contextmanager
def _archive(file: Path) -> Iterator[tarfile.TarFile]:
    """A compressed tar for its owner alone, on disk when the block ends."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as plain:
        with pa.CompressedOutputStream(plain, "zstd") as packed:
            with tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                yield archive
        if not plain.closed:
            plain.flush()
            os.fsync(plain.fileno())


def _write(
    archive: tarfile.TarFile,
    header: Header,
    sources: list[Source],
    on_progress: Progress,
) -> dict[str, str | None]:
    """Write everything; {name: sha256}, None where a file changed while it was read."""
    _add(archive, HEADER, header.model_dump_json(indent=2).encode())
    sums: dict[str, str | None] = {}
    done = 0
    for source in sources:
        on_progress(done, header.bytes)
        sums[source.name] = _add_file(archive, source)
        done += source.bytes
    on_progress(done, header.bytes)
    _add(archive, CHECKSUMS, json.dumps(sums, indent=0, sort_keys=True).encode())
    return sums


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o600) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _add_file(archive: tarfile.TarFile, source: Source) -> str | None:
    try:
        file = _open(source)
    except FileNotFoundError:
        return None  # deleted since: whoever deleted it does not need it
    with file:
        if source.bytes <= WHOLE_BYTES:
            content = file.read(source.bytes)
            if len(content) < source.bytes or _is_changed(file, source):
                return None
            _add(archive, source.name, content, source.mode)
            return hashlib.sha256(content).hexdigest()
        entry = tarfile.TarInfo(source.name)
        entry.size, entry.mode = source.bytes, source.mode
        reading = _Hashing(file)
        archive.addfile(entry, reading)
        is_sound = reading.is_whole and not _is_changed(file, source)
        return reading.digest.hexdigest() if is_sound else None


def _open(source: Source) -> IO[bytes]:
    """Open a file, also one that is gone for a moment, as it is just being published again.

    Raises:
        FileNotFoundError: it is gone for good.
    """
    for _ in range(40 if source.until is None else 0):
        try:
            return source.path.open("rb")
        except FileNotFoundError:
            time.sleep(0.05)
    return source.path.open("rb")


def _is_changed(file: IO[bytes], source: Source) -> bool:
    found = os.fstat(file.fileno())
    is_later = source.until is not None and found.st_mtime_ns >= source.until
    return is_later or found.st_size != source.bytes


class _Hashing:
    """A file, hashed as it is read; zeros where it became shorter."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self.is_whole = True
        self._file = file

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            self.is_whole = False
            content = content.ljust(size, b"\0")
        self.digest.update(content)
        return content


@contextmanager
def _one_line(problem: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StackError(
            f"{problem} (a database of the home: {error})", "see what keeps it"
        ) from error
    except (OSError, pa.ArrowException, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise StackError(
            f"{problem} ({reason})", "make room there, or choose another disk"
        ) from error
