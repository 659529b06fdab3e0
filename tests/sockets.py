"""What processes of a test listen on, found among all sockets of this machine.

Whatever a test starts inherits a variable of its own, by which it is known even where its parent
has gone. A server inherits next to nothing, but knows its home. Sockets of others do not
count.
"""

import os
import threading
import uuid
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

MARK = "SOCKETS_OF_TESTS"


class Listening:
    """Addresses on which processes with this mark, or of this home, listen while the block runs."""

    def __init__(self, home: Path | None = None) -> None:
        self.mark = uuid.uuid4().hex
        self.home = home
        self.seen: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        os.environ[MARK] = self.mark
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del os.environ[MARK]
        self._stop.set()
        self._thread.join()

    def now(self) -> dict[str, str]:
        """{address: command line} of all that could be reached at this moment."""
        found = {}
        for one in psutil.net_connections("all"):
            if one.pid is None or one.pid == os.getpid() or not is_open(one):
                continue
            with suppress(psutil.Error):  # it ended just now
                process = psutil.Process(one.pid)
                if self._is_ours(process.environ()):
                    found[address_of(one)] = " ".join(process.cmdline())
        return found

    def _is_ours(self, environment: dict[str, str]) -> bool:
        if environment.get(MARK) == self.mark:
            return True
        return self.home is not None and any(
            str(self.home) in value for value in environment.values()
        )

    @property
    def beyond_loopback(self) -> dict[str, str]:
        """Those that another machine reaches, or as abstract sockets every user of this one."""
        return {
            address: command
            for address, command in self.seen.items()
            if address.startswith("@") or not is_local(address)
        }

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.seen |= self.now()


def is_open(one: "psutil._common.sconn") -> bool:
    """A TCP or Unix socket that takes connections, or a UDP one that takes datagrams."""
    if not one.laddr:
        return False
    if isinstance(one.laddr, str):
        return one.laddr.startswith("@") or one.type.name == "SOCK_STREAM"
    return one.status == psutil.CONN_LISTEN or (one.type.name == "SOCK_DGRAM" and not one.raddr)


def address_of(one: "psutil._common.sconn") -> str:
    return one.laddr if isinstance(one.laddr, str) else f"{one.laddr.ip} {one.laddr.port}"


def is_local(address: str) -> bool:
    """A path of the file system, guarded by its folder, or an address of the loopback interface."""
    return address.startswith("/") or ip_address(address.split()[0]).is_loopback
