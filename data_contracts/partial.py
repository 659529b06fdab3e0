"""Files and folders that are made under another name and renamed when whole."""

import os
import shutil
import tempfile
from pathlib import Path

import psutil

PREFIX = ".partial-"


def partial_folder(root: Path | None) -> Path:
    """A new folder below `root` (the system's temporary folder if None) that names its maker."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))


def publish(partial: Path, final: Path) -> None:
    """Make a finished folder visible under its own name, in one step."""
    partial.chmod(0o755)
    partial.rename(final)


def write_whole(file: Path, text: str) -> None:
    """Replace `file` in one step: a reader finds the old text or the new one.

    Raises:
        OSError: it cannot be written; what was there is as before.
    """
    partial = file.with_name(f"{PREFIX}{os.getpid()}-{file.name}")
    try:
        with partial.open("w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())  # some disks tell only now that they are full
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def remove_abandoned(root: Path) -> None:
    """Remove what processes that are gone left unfinished; those at work keep theirs."""
    for folder in root.glob(f"{PREFIX}*-*"):
        if not psutil.pid_exists(int(folder.name.removeprefix(PREFIX).split("-")[0])):
            shutil.rmtree(folder, ignore_errors=True)
