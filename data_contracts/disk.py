"""A disk that is full or may not be written: one error, in whatever words a library reports it.

SQLite, safetensors, Arrow, MLflow and Prefect's server each have their own; some only answer that
something failed. So an error is first looked at, with all that led to it, and then the disk itself.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_contracts.errors import DiskError, EvergreenError, StackError

FULL = {errno.ENOSPC, errno.EDQUOT}
# SQLite says the third; Rust's libraries (safetensors, tokenizers) say the fourth.
SAYS_FULL = re.compile(
    r"no space left on device|disk quota exceeded|database or disk is full|os error (28|122)\b",
    re.IGNORECASE,
)
SAYS_READ_ONLY = re.compile(r"read-only file system|readonly database|os error 30\b", re.IGNORECASE)
# A disk with less room than this fails at one thing or another.
PROBE_BYTES = 1 << 20


@contextlib.contextmanager
def disk_errors(home: Path) -> Iterator[None]:
    """Whatever a disk makes fail in this block fails with a DiskError. Raises it."""
    try:
        yield
    except Exception as error:
        problem = disk_error(error, home)
        if problem is None or problem is error:
            raise
        raise problem from error


def disk_error(error: BaseException, home: Path) -> DiskError | None:
    """What is wrong with a disk, if that is why `error` was raised; None if the disks are well.

    An error that a user can act on stands as it is, unless a disk caused it and it says nothing of
    one. Where nothing says so, the disk of `home` is tried.

    Args:
        error: anything that was caught.
        home: the folder that everything is written below.
    """
    if (named := named_disk_error(error, home)) is not None:
        return named
    if isinstance(error, EvergreenError) and not isinstance(error, StackError):
        return None
    if isinstance(error, StackError) and "disk" in error.fix:
        return None
    return unwritable(home)  # a service that did not start says nothing of it


def named_disk_error(error: BaseException, home: Path) -> DiskError | None:
    """As `disk_error`, from what the error and those that led to it say alone."""
    if isinstance(error, EvergreenError) and "disk" in error.fix:
        return error if isinstance(error, DiskError) else None
    for one in _causes(error):
        if isinstance(one, DiskError):
            return one
        number = one.errno if isinstance(one, OSError) else None
        name = one.filename if isinstance(one, OSError) else None
        if number in FULL or SAYS_FULL.search(str(one)):
            return _full(home)
        if number == errno.EROFS or SAYS_READ_ONLY.search(str(one)):
            return _read_only(Path(os.fsdecode(name)) if name else home)
    if isinstance(error, PermissionError) and error.filename:
        return DiskError(
            f"{os.fsdecode(error.filename)}: {error.strerror}",
            "change its owner or its permissions, or run as the user it belongs to",
        )
    return None


def says_disk(text: str, home: Path) -> DiskError | None:
    """What is wrong with a disk, if a message of a library says so."""
    if SAYS_FULL.search(text):
        return _full(home)
    return _read_only(home) if SAYS_READ_ONLY.search(text) else None


def require_writable(home: Path) -> None:
    """Raises DiskError: nothing may be written below a folder, or where it is to be made."""
    folder = existing(home)
    if os.access(folder, os.W_OK | os.X_OK):
        return
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise _read_only(folder)
    raise DiskError(
        f"{folder} may not be written",
        "change its owner or its permissions, or set EVERGREEN_HOME to a folder you own",
    )


def existing(folder: Path) -> Path:
    """The folder, or the one in which it would be made."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def unwritable(home: Path) -> DiskError | None:
    """Why the disk of a folder cannot be written, found by trying; None if it can."""
    folder = existing(home)
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        if error.errno in FULL:
            return _full(home)
        if error.errno == errno.EROFS:
            return _read_only(folder)
        return DiskError(f"{folder} cannot be written ({error.strerror})", "mend its disk")
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, those that led to it, and those that it is a group of."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _full(home: Path) -> DiskError:
    room = []
    for folder in dict.fromkeys((home, Path(tempfile.gettempdir()))):
        with contextlib.suppress(OSError):
            room.append(f"{shutil.disk_usage(folder).free / 1e6:.1f} MB free at {folder}")
    return DiskError(
        f"the disk is full ({', '.join(room)})",
        "make room, then run the same command again: it goes on where it was",
    )


def _read_only(path: Path) -> DiskError:
    return DiskError(
        f"the disk of {path} is read-only",
        "make it writable, or set EVERGREEN_HOME to a folder on another disk",
    )
