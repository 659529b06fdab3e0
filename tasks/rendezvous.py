"""How the ranks of a training find one another, and who else can reach what they open.

On one machine they meet in files of a folder that only the user can enter, and everything that
listens does so on the loopback interface. PyTorch's own default (`--standalone`) opens two ports on
all interfaces instead, one of which unpickles, and so runs, what anybody sends to it.

Several machines need PyTorch's TCP store, which asks nobody who they are: whoever reaches it runs
code as the user. Therefore it is refused at an address that the internet may reach.
"""

import ipaddress
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import psutil

from data_contracts.errors import ConfigError
from data_contracts.partial import partial_folder

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Loopback, RFC 1918, link-local, shared address space (RFC 6598), unique local (RFC 4193).
PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("100.64.0.0/10", "::1/128", "fe80::/10", "fc00::/7"),
    )
)


@dataclass(frozen=True)
class Rendezvous:
    """What a launcher and its ranks are told."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    store: Path | None = None


@contextmanager
def on_this_machine() -> Iterator[Rendezvous]:
    """A rendezvous of one launcher, for as long as the block runs. Nothing of it is reached from
    another machine or by another user."""
    folder = partial_folder(None)  # of mode 0700
    loopback = loopback_interface()
    try:
        yield Rendezvous(
            arguments=(
                *("--nnodes", "1", "--local-addr", "127.0.0.1"),
                *("--rdzv-backend", "c10d", "--rdzv-endpoint", str(folder / "launcher")),
                # A launcher that is alone writes no signs of life, which would fill the file.
                *("--rdzv-conf", "store_type=file,keep_alive_interval=31536000"),
                *("--rdzv-id", folder.name, "--log-dir", str(folder / "torchrun")),
            ),
            environment={
                # Else the launcher serves a TCP store to its ranks, which need none.
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
                "GLOO_SOCKET_IFNAME": loopback,
                "NCCL_SOCKET_IFNAME": loopback,
            },
            store=folder / "ranks",
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def of_machines(nodes: int, address: str, job: str, *, public: bool) -> Iterator[Rendezvous]:
    """A rendezvous of `nodes` launchers at `address` (host:port), `public` or not.

    Raises:
        ConfigError: as `require_private`.
    """
    require_private(address, public=public)
    folder = partial_folder(None)
    try:
        yield Rendezvous(
            arguments=(
                *("--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", address),
                *("--rdzv-id", job, "--log-dir", str(folder / "torchrun")),
            )
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_private(address: str, *, public: bool) -> None:
    """Refuse a rendezvous that may be reached from the internet, unless `public` allows it.

    Raises:
        ConfigError: the host is unknown, or one of its addresses is not private.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not 0 < int(port) < 1 << 16:
        raise ConfigError(f"train.rendezvous: there is no port {port}", "choose one below 65536")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"train.rendezvous: the host {host!r} is unknown here", "correct it, or its DNS entry"
        ) from error
    outside = sorted({str(entry[4][0]) for entry in found if not is_private(str(entry[4][0]))})
    if outside and not public:
        raise ConfigError(
            f"train.rendezvous {address} is not private ({', '.join(outside)}), and whoever reaches"
            " it runs code as you",
            "use an address of an isolated network, or, behind a firewall, set"
            " train.allow_public_rendezvous: true",
        )


def is_private(address: str) -> bool:
    """Whether an IP address is of a network that the internet does not route."""
    parsed: Address = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed.version == network.version and parsed in network for network in PRIVATE)


def loopback_interface() -> str:
    """`lo` on Linux, `lo0` on macOS."""
    names = {
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(one.address == "127.0.0.1" for one in addresses)
    }
    return min(names, default="lo0" if os.uname().sysname == "Darwin" else "lo")
