"""Leases: who retrains a model now. At most one run holds a model's lease.

A run of this host, boot and PID namespace is alive while its process is, whatever the clock says.
Any other (on another machine, in another container, written by Evergreen 0.1.0) is alive while its
heartbeat is heard, by the clock of the database. Its token fences it off: a run that was taken for
dead and wakes up again finds that it may not promote.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from data_contracts.errors import StackError
from data_contracts.process_identity import ProcessIdentity
from tasks.ledger.database import Ledger, database_clock, leases

BEAT_SECONDS = 10.0


def holder(connection: Connection, model: str) -> str | None:
    """What holds the model's lease: one line, or None."""
    row = connection.execute(select(leases).where(leases.c.model == model)).one_or_none()
    return None if row is None else f"{row.what} on {row.host}, process {row.process.split(':')[0]}"


def take(connection: Connection, model: str, token: str, what: str) -> None:
    """Take a free lease; call inside a transaction of the model."""
    process = ProcessIdentity.current()
    connection.execute(
        insert(leases).values(
            model=model,
            token=token,
            host=process.host,
            process=str(process),
            what=what,
            seen_at=database_clock(),
        )
    )


def release(connection: Connection, model: str, token: str) -> bool:
    """Give the lease back; False if it was no longer ours."""
    mine = (leases.c.model == model) & (leases.c.token == token)
    return connection.execute(delete(leases).where(mine)).rowcount == 1


def drop_dead(connection: Connection, model: str, stale_seconds: float) -> None:
    """Take the lease from a run that is gone."""
    row = connection.execute(select(leases).where(leases.c.model == model)).one_or_none()
    if row is None:
        return
    if not _is_alive(connection, row, stale_seconds):
        release(connection, model, row.token)


def require(ledger: Ledger, model: str, token: str) -> None:
    """Check that the lease is still ours.

    Raises:
        StackError: this run was taken for dead, and another may have its place.
    """
    mine = (leases.c.model == model) & (leases.c.token == token)
    with ledger.transaction(model) as connection:
        if connection.execute(select(leases).where(mine)).one_or_none() is None:
            raise StackError(
                f"this retrain of {model!r} was silent for too long and lost its place",
                "`evergreen ledger` says which run took it; nothing was promoted here",
            )


@contextmanager
def heartbeat(ledger: Ledger, model: str, token: str) -> Iterator[None]:
    """Say every BEAT_SECONDS that we are alive, as long as the block runs."""
    done = threading.Event()
    mine = (leases.c.model == model) & (leases.c.token == token)

    def beat() -> None:
        while not done.wait(BEAT_SECONDS):
            try:
                with ledger.transaction(model) as connection:
                    connection.execute(update(leases).where(mine).values(seen_at=database_clock()))
            except Exception:  # noqa: BLE001, S112 - a database that is away now may be back later
                continue

    thread = threading.Thread(target=beat, name="lease heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _is_alive(connection: Connection, row: Any, stale_seconds: float) -> bool:
    # Evergreen 0.1.0 wrote a process down as PID:TIME, which says too little.
    process = ProcessIdentity.parse(row.host, row.process)
    fate = process.fate() if process is not None else "unknown"
    if fate == "unknown":
        now = connection.execute(select(database_clock())).scalar_one()
        return bool(now - row.seen_at < timedelta(seconds=stale_seconds))
    return fate == "alive"
