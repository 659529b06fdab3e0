"""Who a process is, so that others can tell for certain whether it still runs.

A process id alone says little: it is used again, and in another container it names another
process. An identity is the host, the boot, the PID namespace, the process id and the kernel's
count of ticks from boot to the process's start. None of them changes when a clock is set.
"""

import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Literal, Self

import psutil
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.digests import digest_json

PROC = Path("/proc")
# Fields of /proc/PID/stat after the command's name: the state, and the start in ticks since boot.
STATE, STARTED = 0, 19
# A process that nobody has waited for yet has ended all the same.
ENDED = ("Z", "X", "x")

Fate = Literal["alive", "dead", "unknown"]


class ProcessIdentity(BaseModel):
    """One process of one boot of one machine. What this machine cannot tell is empty."""

    model_config = ConfigDict(frozen=True)

    host: str
    boot: str
    namespace: str
    pid: int = Field(gt=0)
    started: str

    @classmethod
    def current(cls) -> Self:
        """This process."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            boot=_boot(),
            namespace=_namespace(),
            pid=pid,
            started=(_started(pid) or "") if _sees_processes() else "",
        )

    @classmethod
    def parse(cls, host: str, text: str) -> Self | None:
        """The process on `host` that `str` wrote down so; None if the text is another form."""
        pid, started, namespace, boot = (*text.split(":"), "", "", "")[:4]
        try:
            found = cls(host=host, boot=boot, namespace=namespace, pid=int(pid), started=started)
        except ValueError:
            return None
        return found if boot else None

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}:{self.namespace}:{self.boot}"

    @property
    def place(self) -> str:
        """Names the host, boot and namespace: where process ids mean the same, 12 hex digits."""
        return digest_json([self.host, self.boot, self.namespace])[:12]

    def fate(self) -> Fate:
        """Whether this process still runs; `unknown` unless process ids mean the same here."""
        return fate_at(self.place, self.pid, self.started)


def fate_at(place: str, pid: int, started: str) -> Fate:
    """Whether the process with this id and start, at a `ProcessIdentity.place`, still runs."""
    here = ProcessIdentity.current()
    if place != here.place or not (here.boot and here.namespace):
        return "unknown"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "dead"
    except OverflowError:
        return "unknown"
    except PermissionError:
        pass  # it runs, as somebody else: its start still tells which one it is
    if not started or not here.started:
        return "unknown"
    now = _started(pid)
    if now is None:  # it ended since, or cannot be looked at: the next look tells
        return "unknown"
    return "alive" if now == started else "dead"


def _started(pid: int) -> str | None:
    """When the kernel started a process, `ended` if it runs no more, None if it cannot be seen."""
    if sys.platform != "linux":
        # There the kernel keeps the time of the start, and does not change it with the clock.
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return "ended"
            return f"{process.create_time():.6f}"
        except psutil.Error:
            return None
    try:
        # The name in parentheses may itself hold spaces and parentheses.
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if fields[STATE] in ENDED else fields[STARTED]


def _sees_processes() -> bool:
    """Whether /proc shows this PID namespace: a container may have been given another one's."""
    if sys.platform != "linux":
        return True
    try:
        return str((PROC / "self").readlink()) == str(os.getpid())
    except OSError:
        return False


@cache
def _boot() -> str:
    """Names this boot of this kernel; empty where nothing does."""
    if sys.platform == "darwin":
        asked = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    """The PID namespace, with the time namespace, which shifts starts; empty where none is known.

    Kernels before 5.6 have no time namespaces; a macOS machine has one PID namespace.
    """
    if sys.platform != "linux":
        return "one"
    try:
        kinds = [kind for kind in ("pid", "time") if (PROC / "self/ns" / kind).exists()]
        inodes = [str((PROC / "self/ns" / kind).stat().st_ino) for kind in kinds]
    except OSError:
        return ""
    return "-".join(inodes) if "pid" in kinds else ""
