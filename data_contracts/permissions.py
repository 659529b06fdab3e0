"""Who may read what is written: below EVERGREEN_HOME its owner alone, whatever the umask.

The umask of the whole process is set, so that it holds for what libraries and child processes
write as well. What is exported for others to read gets the permissions that the user's own umask
gives.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

PRIVATE = 0o077

_users_umask: int | None = None


def keep_private() -> None:
    """From now on, files and folders that this process and its children make are the owner's."""
    global _users_umask
    before = os.umask(PRIVATE)
    if _users_umask is None:
        _users_umask = before


def let_others_read(folder: Path) -> None:
    """Give a folder and all in it the permissions that the user's umask gives new ones."""
    umask = PRIVATE if _users_umask is None else _users_umask
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def tighten(folder: Path) -> int:
    """Take every permission of others from a folder and all in it. Symlinks are not followed.

    Returns:
        how many could not be changed, as they are not this user's
    """
    failed = 0
    for descriptor, name in _below(folder):
        try:
            mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            regular = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
            if regular and stat.S_IMODE(mode) & PRIVATE:
                # Opened first: between a look and a change its name could become a symlink.
                opened = os.open(
                    name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor
                )
                try:
                    os.fchmod(opened, stat.S_IMODE(mode) & ~PRIVATE)
                finally:
                    os.close(opened)
        except FileNotFoundError:
            continue  # it went while we looked
        except OSError:
            failed += 1
    return failed


def _below(folder: Path) -> Iterator[tuple[int, str]]:
    """(open folder, name of something in it), the folder itself first, links not followed."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield top, "."
    finally:
        os.close(top)
    for _, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            yield descriptor, name
