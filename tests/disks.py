"""A disk of its own: a tmpfs, which can shrink to what it holds, grow, and be read-only."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOMY = 3 << 30


class Disk:
    """A mounted tmpfs. Nothing is taken of the memory but what is written to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, room: int = 0) -> None:
        """Leave `room` bytes free and no more."""
        self._remount(f"size={max(4096, shutil.disk_usage(self.path).used + room)}")

    def make_room(self) -> None:
        self._remount(f"size={ROOMY}")

    def make_read_only(self) -> None:
        self._remount("ro")

    def make_writable(self) -> None:
        self._remount("rw")

    def _remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.path)], check=True)


@contextmanager
def mounted(path: Path) -> Iterator[Disk]:
    """A roomy disk at `path`. Skips the test where disks may not be mounted."""
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOMY},mode=0700", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
