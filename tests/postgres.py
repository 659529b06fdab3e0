"""A real Postgres for the tests: import the fixture `postgres` to have one.

Where there is none, or no driver, what asks for it is skipped.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.local import free_port
from tasks import processes

USER = "evergreen"
DATABASES = ("prefect", "mlflow", "ledger")
START_SECONDS = 30


class Postgres(NamedTuple):
    port: int
    password: str

    def url(self, database: str, driver: str = "postgresql") -> str:
        return f"{driver}://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"


def binaries() -> Path:
    """The folder of initdb and postgres; Debian keeps them off PATH."""
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    for folder in sorted(versions, key=lambda bin: float(bin.parent.name), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    if (found := shutil.which("initdb")) and shutil.which("postgres"):
        return Path(found).parent
    pytest.skip("no Postgres here: install Debian's package `postgresql` to run this")


def as_postgres() -> list[str]:
    """What to put before a command: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("runuser"):
        pytest.skip("Postgres does not run as root, and there is no runuser")
    return ["runuser", "-u", "postgres", "--"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A Postgres with the databases in DATABASES, gone after the module."""
    pytest.importorskip("psycopg2", reason="needs the extra `postgres`")
    folder, user = binaries(), as_postgres()
    # Not below pytest's own folder, which the user `postgres` may not enter.
    with tempfile.TemporaryDirectory(prefix="evergreen-postgres-") as scratch:
        data = Path(scratch) / "data"
        server = Postgres(free_port(), secrets.token_hex(16))
        secret = Path(scratch) / "password"
        secret.write_text(server.password, encoding="utf-8")
        if user:
            for path in (Path(scratch), secret):
                shutil.chown(path, "postgres")
        initdb = [
            *(folder / "initdb", "--pgdata", data, "--username", USER, "--pwfile", secret),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        ]
        subprocess.run([*user, *initdb], check=True, cwd=scratch, capture_output=True)
        with (Path(scratch) / "log").open("w", encoding="utf-8") as log:
            process = processes.start(
                [
                    *(*user, str(folder / "postgres"), "-D", str(data), "-c", "fsync=off"),
                    *("-k", scratch, "-h", "127.0.0.1", "-p", str(server.port)),
                ],
                stdout=log,
            )
        try:
            for database in DATABASES:
                execute(server, "postgres", f"CREATE DATABASE {database}")
            yield server
        finally:
            # A plain end would wait for MLflow's pooled connections.
            stop = [folder / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
            subprocess.run([*user, *stop], check=False, cwd=scratch, capture_output=True)
            processes.stop(process)


def execute(server: Postgres, database: str, statement: str) -> list[tuple[object, ...]]:
    import psycopg2

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = psycopg2.connect(server.url(database))
            break
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()
