"""Whether anything uses a home now: servers of `evergreen up`, or a run that holds a lease."""

import json
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from data_contracts.process_identity import ProcessIdentity
from data_contracts.workspace import Workspace
from tasks.home.databases import columns, connect, ledger_file
from tasks.home.relocation import SERVICES

# As the default of `limits.stale_seconds`: a live run sends a heartbeat every ten seconds.
SILENT = timedelta(seconds=90)


def user_of(workspace: Workspace) -> str | None:
    """What uses this home, in words; None if nothing does. Asked before the home is changed."""
    return _server(workspace) or _run(workspace)


def _server(workspace: Workspace) -> str | None:
    file = workspace.home / SERVICES
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
        urls = [url for url in noted.values() if isinstance(url, str)]
    except (OSError, ValueError, AttributeError):
        return None
    for url in urls:
        try:
            address = urlsplit(url)
            with socket.create_connection((address.hostname or "", address.port or 80), timeout=2):
                return f"a server at {url} (if that is not Evergreen's, delete {file})"
        except (OSError, ValueError):
            continue
    return None


def _run(workspace: Workspace) -> str | None:
    if not ledger_file(workspace).is_file():
        return None
    with closing(connect(ledger_file(workspace))) as connection:
        if not columns(connection, "evergreen_leases"):
            return None
        rows = connection.execute("SELECT model, host, process, seen_at FROM evergreen_leases")
        for model, host, process, seen_at in rows.fetchall():
            if _is_alive(host, process, seen_at):
                return f"a retrain of {model!r} on {host}, process {process.split(':')[0]}"
    return None


def _is_alive(host: str, process: str, seen_at: str) -> bool:
    known = ProcessIdentity.parse(host, process)
    fate = known.fate() if known is not None else "unknown"
    if fate == "unknown":
        return datetime.now(UTC) - datetime.fromisoformat(seen_at).replace(tzinfo=UTC) < SILENT
    return fate == "alive"
