"""A home from a backup: unpacked under another name, checked whole, and then given its name."""

import errno
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from data_contracts.errors import StackError
from data_contracts.home_format import FORMAT, is_unmarked, later
from data_contracts.partial import partial_folder, remove_abandoned
from data_contracts.permissions import keep_private
from data_contracts.workspace import Workspace
from tasks.home import usage
from tasks.home.backup import CHECKSUMS, HEADER, Header, Progress
from tasks.home.opening import open_home

# The longest of our own two documents that is believed.
DOCUMENT_BYTES = 256 * 2**20
CHUNK_BYTES = 2**20


class Restored(BaseModel):
    """What was restored. `replaced` is where the home that was there before is now."""

    model_config = ConfigDict(frozen=True)

    home: str
    made_at: datetime
    files: int
    bytes: int
    replaced: str | None


class NotABackup(Exception):
    """The file is not one that `evergreen backup` wrote, or not all of it."""


def restore(
    file: Path,
    workspace: Workspace,
    *,
    replace: bool = False,
    on_progress: Progress = lambda *_: None,
) -> Restored:
    """Make a home from a backup, whole or not at all.

    Args:
        file: what `evergreen backup` wrote. Restore only what you would run: a home holds models
            and their code.
        workspace: where the home is to be.
        replace: if there is a home, put it aside under another name; without, it is refused.
        on_progress: gets (bytes done, bytes in all).

    Raises:
        StackError: there is a home already, or one in use; the file is no whole backup, was
            changed, or is of a later Evergreen; there is no room. The home is then as it was.
    """
    keep_private()
    home = workspace.home
    _require_free(workspace, replace=replace)
    with _reading(file) as archive:
        header = _header(archive)
        if header.home.format > FORMAT:
            raise later(file, f"format {header.home.format}", f"format {FORMAT}")
        partial = _partial_home(home, header)
        try:
            count = _unpack(archive, partial, header, on_progress)
            replaced = _give_name(partial, home)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    open_home(workspace)
    return Restored(
        home=str(home),
        made_at=header.created_at,
        files=count,
        bytes=header.bytes,
        replaced=str(replaced) if replaced else None,
    )


def _require_free(workspace: Workspace, *, replace: bool) -> None:
    home = workspace.home
    if not _holds_anything(home):
        return
    if not replace:
        raise StackError(
            f"there is a home at {home}",
            "restore to another EVERGREEN_HOME, or put this one aside with --replace",
        )
    if (user := usage.user_of(workspace)) is not None:
        raise StackError(f"{home} is used by {user}", "stop it first")


def _holds_anything(home: Path) -> bool:
    """Whether there is more than what any command leaves in a new home."""
    return is_unmarked(home) or (home / "keys").exists()


def _partial_home(home: Path, header: Header) -> Path:
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        if home.is_mount():
            raise StackError(
                f"{home} is the mount point of a disk, and cannot be given to another folder",
                "set EVERGREEN_HOME to a folder on that disk",
            )
        remove_abandoned(home.parent)
        free = shutil.disk_usage(home.parent).free
        if header.bytes > free:
            raise StackError(
                f"{header.bytes / 1e9:.1f} GB needed at {home.parent}, {free / 1e9:.1f} GB free",
                "free some disk space or set EVERGREEN_HOME to another disk",
            )
        return partial_folder(home.parent)
    except OSError as error:
        raise StackError(
            f"{home.parent} cannot be written ({error.strerror})",
            "set EVERGREEN_HOME to a folder below one you own",
        ) from error


@contextmanager
def _reading(file: Path) -> Iterator[tarfile.TarFile]:
    """The archive in a backup; whatever is wrong with it is one line."""
    try:
        with file.open("rb") as packed, pa.CompressedInputStream(packed, "zstd") as plain:
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                yield archive
    except FileNotFoundError as error:
        raise StackError(f"there is no file {file}", "name a backup") from error
    except (OSError, EOFError, ValueError, pa.ArrowException, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StackError(
                "no disk space left for the home", "free some; nothing was restored"
            ) from error
        raise _damaged(
            file, str(error).splitlines()[0] if str(error) else type(error).__name__
        ) from error
    except NotABackup as error:
        raise _damaged(file, str(error)) from error


def _damaged(file: Path, why: str) -> StackError:
    return StackError(
        f"{file} is no whole backup ({why[:200]})", "use another one; nothing was restored"
    )


def _header(archive: tarfile.TarFile) -> Header:
    member = archive.next()
    if member is None or member.name != HEADER:
        raise NotABackup(f"it does not begin with {HEADER}")
    return Header.model_validate_json(_document(archive, member))


def _document(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member) if member.isreg() else None
    if content is None or member.size > DOCUMENT_BYTES:
        raise NotABackup(f"{member.name} is no document")
    return content.read()


def _unpack(archive: tarfile.TarFile, folder: Path, header: Header, on_progress: Progress) -> int:
    """Unpack into a new folder and check every file; how many there are.

    Raises:
        NotABackup: something is missing, was changed, or does not belong there.
    """
    sums: dict[str, str] = {}
    done = 0
    while (member := archive.next()) is not None:
        if member.name == CHECKSUMS:
            return _check(json.loads(_document(archive, member)), sums, folder)
        _require_harmless(member, sums)
        done += member.size
        if done > header.bytes or len(sums) >= header.files:
            raise NotABackup("it holds more than it says")
        content = archive.extractfile(member)
        if content is None:
            raise NotABackup(f"{member.name[:80]!r} is no file")
        sums[member.name] = _write(content, folder / member.name, member.mode)
        on_progress(done, header.bytes)
    raise NotABackup(f"it is cut short: {CHECKSUMS} is missing")


def _require_harmless(member: tarfile.TarInfo, seen: dict[str, str]) -> None:
    """Only regular files, below the home, each once."""
    path = PurePosixPath(member.name)
    name = repr(member.name[:80])
    if not member.isreg():
        raise NotABackup(f"{name} is a link or a device")
    if path.is_absolute() or ".." in path.parts or str(path) != member.name or "\0" in member.name:
        raise NotABackup(f"{name} would be outside of the home")
    if member.name in seen:
        raise NotABackup(f"{name} is there twice")


def _write(content: IO[bytes], target: Path, mode: int) -> str:
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    permissions = 0o700 if mode & 0o100 else 0o600
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, permissions)
    with os.fdopen(descriptor, "wb") as file:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _check(expected: dict[str, str | None], found: dict[str, str], folder: Path) -> int:
    """Compare sums. A file whose sum is null changed while it was saved, and is not kept."""
    for name in [name for name in found if name in expected and expected[name] is None]:
        (folder / name).unlink()
        del found[name]
    whole = {name: digest for name, digest in expected.items() if digest is not None}
    if whole != found:
        wrong = sorted(whole.items() ^ found.items())
        raise NotABackup(f"{wrong[0][0][:80]!r} is missing or was changed")
    return len(found)


def _give_name(partial: Path, home: Path) -> Path | None:
    """Put the new home where it belongs; where the one that was there before is now, if any."""
    os.sync()  # or after a power cut the name could be there and the content not
    aside = None
    if home.exists():
        aside = home.with_name(f"{home.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        home.rename(aside)
    try:
        partial.rename(home)
    except OSError:
        if aside is not None:
            aside.rename(home)
        raise
    if aside is not None and not _holds_anything(aside):
        shutil.rmtree(aside, ignore_errors=True)
        return None
    return aside
