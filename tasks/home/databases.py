"""The SQLite databases of a home: which there are, copied while others write to them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from data_contracts.workspace import Workspace

BUSY_SECONDS = 60.0
# What SQLite keeps beside a database; belongs to the database that is there, and to no other.
SIDE_FILES = ("-wal", "-shm", "-journal")


def ledger_file(workspace: Workspace) -> Path:
    return workspace.home / "ledger.db"


def mlflow_file(workspace: Workspace) -> Path:
    return workspace.mlflow / "mlflow.db"


def prefect_file(workspace: Workspace) -> Path:
    return workspace.prefect / "prefect.db"


def existing(workspace: Workspace) -> list[Path]:
    """Those that are there, the ledger first."""
    found = (ledger_file(workspace), mlflow_file(workspace), prefect_file(workspace))
    return [file for file in found if file.is_file()]


def copy(source: Path, target: Path) -> None:
    """A consistent copy by SQLite's online backup; writers go on meanwhile.

    Args:
        source: the database.
        target: is made, for its owner alone.

    Raises:
        sqlite3.Error: it is no SQLite database, damaged, or somebody keeps it for BUSY_SECONDS.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(source)) as there, closing(sqlite3.connect(target)) as here:
        # In one step: in several, it begins anew whenever somebody has written in between.
        there.backup(here, pages=-1)
        # A copy has no writer yet, and is whole in one file.
        here.execute("PRAGMA journal_mode=DELETE")


def put_back(copied: Path, target: Path) -> None:
    """Replace a database by an earlier copy of it. Nobody may have it open."""
    for suffix in SIDE_FILES:
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    copy(copied, partial)
    partial.replace(target)


@contextmanager
def writing(file: Path) -> Iterator[sqlite3.Connection]:
    """One transaction that nobody else writes beside; rolled back if the block raises."""
    with closing(connect(file)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def connect(file: Path) -> sqlite3.Connection:
    """An open database that is there already."""
    address = f"{file.as_uri()}?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """Names of a table's columns; empty if there is no such table."""
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
