"""Leases: who retrains a model now. At most one run holds a model's lease.

A run on this machine is alive while its process is; one on another machine while its
heartbeat is heard. Its token fences it off: a run that was taken for dead and wakes up
again finds that it may not promote.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psutil
from sqlalchemy import Connection, delete, insert, select, update

from data_contracts.errors import StackError
from tasks.ledger.database import Ledger, leases, now

BEAT_SECONDS = 10.0
CLOCK_SECONDS = 5.0


def holder(connection: Connection, model: str) -> str | None:
    """What holds the model's lease: one line, or None."""
    row = connection.execute(select(leases).where(leases.c.model == model)).one_or_none()
    return None if row is None else f"{row.what} on {row.host}, process {row.process.split(':')[0]}"


def take(connection: Connection, model: str, token: str, what: str) -> None:
    """Take a free lease; call inside a transaction of the model."""
    connection.execute(
        insert(leases).values(
            model=model,
            token=token,
            host=socket.gethostname(),
            process=_process(os.getpid()),
            what=what,
            seen_at=now(),
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
    if row.host == socket.gethostname():
        alive = _is_alive(row.process)
    else:
        alive = now() - row.seen_at < timedelta(seconds=stale_seconds)
    if not alive:
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
                    connection.execute(update(leases).where(mine).values(seen_at=now()))
            except Exception:  # noqa: BLE001, S112 - a database that is away now may be back later
                continue

    thread = threading.Thread(target=beat, name="lease heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _process(pid: int) -> str:
    """A process's id and birth, so that a later one with the same id is another one."""
    return f"{pid}:{psutil.Process(pid).create_time():.1f}"


def _is_alive(process: str) -> bool:
    pid, born = process.split(":")
    try:
        found = psutil.Process(int(pid))
        # The clock may have been set since; nobody reaped yet is dead all the same.
        same = abs(found.create_time() - float(born)) < CLOCK_SECONDS
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
