"""An older home is brought to the format of this Evergreen, after a copy of what that changes.

| step | what it changes |
|---|---|
| copy | `backups/format-N-TIME/`: the databases and files that the next steps change |
| tables | the ledger's by its own revisions, MLflow's by `mlflow db upgrade` |
| paths | absolute ones below the home become relative to it; MLflow's become its present place |
| permissions | those of others are taken away |
| digests | those of raw text without a key are deleted: in the ledger, in its copy, in the cache |

A migration that is cut off is taken back to its copy when the home is next opened, and done again.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine, event

from data_contracts.errors import StackError
from data_contracts.home_format import FILE, FORMAT, UNFINISHED, HomeFormat
from data_contracts.permissions import tighten
from data_contracts.workspace import HOME, Workspace
from tasks.home import databases
from tasks.home.relocation import ARTIFACTS, recorded_place, relocate
from tasks.ledger import migrations

COPIES = "backups"
# From this format on digests of raw text are keyed. Those of log records are in a table of theirs.
KEYED = 3
SEEN = "evergreen_seen"
# What 0.1.0 keeps with a version that names places: the base, and the snapshots.
DOCUMENTS = ("base.json", "holdout.json", "train.json")


class Unfinished(BaseModel):
    """`migration.json`: there from the copy to the end of a migration."""

    model_config = ConfigDict(frozen=True)

    copy_of: str
    to: HomeFormat


def migrate(workspace: Workspace, found: HomeFormat | None) -> Path:
    """Bring a home to the present format; `found` is what it says of itself now.

    Returns:
        the folder with the copy of what was changed

    Raises:
        StackError: it cannot be done; then the home is as it was.
    """
    place = Path(found.place) if found is not None else recorded_place(workspace)
    copied = _copy_first(workspace, found)
    wanted = HomeFormat.current(workspace.home)
    unfinished = Unfinished(copy_of=str(copied.relative_to(workspace.home)), to=wanted)
    (workspace.home / UNFINISHED).write_text(unfinished.model_dump_json(), encoding="utf-8")
    try:
        if found is None:
            _make_documents_relative(workspace, place or workspace.home)
        _upgrade_ledger(workspace)
        _upgrade_mlflow(workspace)
        if place is not None and place != workspace.home:
            relocate(workspace, place)
        tighten(workspace.home)
        wanted.write(workspace.home)
    except Exception as error:
        take_back(workspace)
        raise StackError(
            f"{workspace.home} could not be brought to format {FORMAT}, and is as it was"
            f" ({_first_line(error)})",
            "correct the cause and run this again",
        ) from error
    try:
        _delete_plain_digests(workspace, copied)
    except (OSError, sqlite3.Error) as error:
        raise StackError(
            f"{copied} holds digests that can be turned back, and cannot be changed"
            f" ({_first_line(error)})",
            "correct the cause and run this again",
        ) from error
    (workspace.home / UNFINISHED).unlink()
    return copied


def take_back(workspace: Workspace) -> None:
    """Undo a migration that was cut off, from its copy. Does nothing if there is none.

    Raises:
        StackError: the copy cannot be put back.
    """
    file = workspace.home / UNFINISHED
    if not file.is_file():
        return
    try:
        unfinished = Unfinished.model_validate_json(file.read_bytes())
        copied = workspace.home / unfinished.copy_of
        is_taken_back = HomeFormat.read(workspace.home) != unfinished.to
        if is_taken_back:
            for source in sorted(path for path in copied.rglob("*") if path.is_file()):
                target = workspace.home / source.relative_to(copied)
                if source.suffix == ".db":
                    databases.put_back(source, target)
                else:
                    _replace(source, target)
        if not is_taken_back:
            _delete_plain_digests(workspace, copied)
        file.unlink()
        if is_taken_back:  # the next attempt makes a copy of its own
            shutil.rmtree(copied, ignore_errors=True)
    except (OSError, ValueError, sqlite3.Error) as error:
        raise StackError(
            f"a migration of {workspace.home} was cut off and cannot be taken back"
            f" ({_first_line(error)})",
            f"restore a backup of this home, or what is in {workspace.home / COPIES}",
        ) from error


def _delete_plain_digests(workspace: Workspace, copied: Path) -> None:
    """What was kept of raw text before format 3 can be turned back by trying texts: it is not kept
    a while longer in a copy, nor in a cache that finds nothing any more."""
    before = HomeFormat.read(copied)
    if before is not None and before.format >= KEYED:
        return
    shutil.rmtree(workspace.cache / "scrub", ignore_errors=True)
    file = copied / databases.ledger_file(workspace).relative_to(workspace.home)
    if not file.is_file():
        return
    with databases.writing(file) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        if databases.columns(connection, SEEN):
            connection.execute(f"DELETE FROM {SEEN}")  # noqa: S608 - a constant


def _copy_first(workspace: Workspace, found: HomeFormat | None) -> Path:
    """Copy what a migration changes, and only that: databases and small files, no weights.

    Raises:
        StackError: there is no room for it, or a database is damaged.
    """
    number = found.format if found is not None else 1
    name = f"format-{number}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    final = workspace.home / COPIES / name
    partial = final.with_name(f".partial-{name}-{os.getpid()}")
    for abandoned in (workspace.home / COPIES).glob(".partial-*"):
        shutil.rmtree(abandoned, ignore_errors=True)  # nobody else is here: a killed attempt's
    files = list(_changed_files(workspace)) if found is None else []
    changed = databases.existing(workspace)
    size = sum(file.stat().st_size for file in (*changed, *files))
    free = shutil.disk_usage(workspace.home).free
    if size > free:
        raise StackError(
            f"{workspace.home} is of format {number} and has to be migrated; that takes a copy of"
            f" {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB of the disk are free",
            "free some disk space, then run this again",
        )
    try:
        for file in changed:
            databases.copy(file, partial / file.relative_to(workspace.home))
        for file in (*files, *(file for file in (workspace.home / FILE,) if file.is_file())):
            target = partial / file.relative_to(workspace.home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        partial.rename(final)
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StackError(
            f"{workspace.home} cannot be copied before its migration ({_first_line(error)})",
            "correct the cause, then run this again; nothing was changed",
        ) from error
    return final


def _changed_files(workspace: Workspace) -> Iterator[Path]:
    """Files of format 1 that name places: what versions keep, and MLflow's descriptions."""
    for file in (workspace.home / ARTIFACTS).rglob("*"):
        if file.name in (*DOCUMENTS, "MLmodel") and file.is_file() and not file.is_symlink():
            yield file


def _make_documents_relative(workspace: Workspace, place: Path) -> None:
    for file in _changed_files(workspace):
        if file.name not in DOCUMENTS:
            continue
        content = json.loads(file.read_bytes())
        path = content.get("path", "")
        if path.startswith(f"{place}/"):
            content["path"] = HOME + path.removeprefix(f"{place}/")
            partial = file.with_name(f".{file.name}.partial")
            partial.write_text(json.dumps(content, indent=2), encoding="utf-8")
            partial.replace(file)


def _upgrade_ledger(workspace: Workspace) -> None:
    file = databases.ledger_file(workspace)
    if not file.is_file():
        return
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": databases.BUSY_SECONDS})
    event.listen(engine, "connect", lambda dbapi, _: setattr(dbapi, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as connection:
            migrations.upgrade(connection)
    finally:
        engine.dispose()


def _upgrade_mlflow(workspace: Workspace) -> None:
    """What `mlflow db upgrade` does, where the tables are not those of the MLflow installed."""
    file = databases.mlflow_file(workspace)
    if not file.is_file():
        return
    from mlflow.store.db import utils

    engine = create_engine(f"sqlite:///{file}")
    try:
        if utils._get_schema_version(engine) != utils._get_latest_schema_revision():
            utils._upgrade_db(engine)
    finally:
        engine.dispose()


def _replace(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _first_line(error: Exception) -> str:
    if isinstance(error, StackError):
        return error.problem
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
