"""Files and folders that are made under another name and renamed when whole.

The name of an unfinished folder says which process makes it: host, boot and PID namespace (as a
digest), process id and start.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from data_contracts.process_identity import ProcessIdentity, fate_at

PREFIX = ".partial-"
MAKER = re.compile(
    rf"{re.escape(PREFIX)}(?P<place>[0-9a-f]{{12}})-(?P<pid>\d+)-(?P<started>[\d.]+)-"
)
# A process elsewhere, of which nobody here can say whether it runs, writes more often than this.
SILENT_SECONDS = 7 * 24 * 3600.0


def partial_folder(root: Path | None) -> Path:
    """A new folder below `root` (the system's temporary folder if None) that names its maker."""
    maker = ProcessIdentity.current()
    name = f"{PREFIX}{maker.place}-{maker.pid}-{maker.started or 0}-"
    return Path(tempfile.mkdtemp(prefix=name, dir=root))


def publish(partial: Path, final: Path) -> None:
    """Make a finished folder visible under its own name, in one step.

    An earlier one of that name, the same content or damaged, makes way for it and is removed.
    """
    if not final.exists():
        partial.rename(final)
        return
    aside = partial_folder(final.parent)
    final.rename(aside / "earlier")
    partial.rename(final)
    shutil.rmtree(aside, ignore_errors=True)


def write_whole(file: Path, text: str) -> None:
    """Replace `file` in one step: a reader finds the old text or the new one.

    Raises:
        OSError: it cannot be written; what was there is as before.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())  # some disks tell only now that they are full
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def remove_abandoned(root: Path) -> None:
    """Remove what processes that are gone left unfinished; those at work keep theirs.

    A folder goes at once if its maker ran on this host, in this boot and PID namespace, and has
    ended. Of a maker elsewhere nobody here knows: its folder goes when nothing in it was written
    for SILENT_SECONDS.
    """
    for folder in root.glob(f"{PREFIX}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    maker = MAKER.match(folder.name)
    fate = fate_at(maker["place"], int(maker["pid"]), maker["started"]) if maker else "unknown"
    if fate == "unknown":
        return time.time() - max(_written_at(folder), default=time.time()) > SILENT_SECONDS
    return fate == "dead"


def _written_at(folder: Path) -> Iterator[float]:
    """When each thing in the folder, and the folder itself, was last written."""
    for path in (folder, *folder.rglob("*")):
        try:
            yield path.lstat().st_mtime
        except OSError:
            yield time.time()  # it went while we looked: somebody is at work
