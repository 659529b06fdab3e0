"""A home that was copied or moved: what still names its old place is made to name the new one.

What Evergreen itself stores is relative to the home (`data_contracts.workspace.HomePath`). MLflow
and Prefect store absolute places in their databases and files; these are rewritten when the home is
first opened elsewhere. Leases and `services.json` speak of processes that use the original: a copy
has none of them. Compiled kernels name the place where they were compiled, and are compiled again.
"""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from data_contracts.errors import StackError
from data_contracts.workspace import Workspace
from tasks.home.databases import columns, connect, ledger_file, mlflow_file, prefect_file, writing

SERVICES = "services.json"
ARTIFACTS = "mlflow/artifacts"
# Folders of the cache whose files hold absolute places.
COMPILED = ("torch_extensions", "triton", "inductor")

# Columns that hold places below the home: whole, or amid JSON.
MLFLOW: dict[str, tuple[str, ...]] = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
    "datasets": ("dataset_source",),
    "trace_tags": ("value",),
    "trace_request_metadata": ("value",),
}
PREFECT: dict[str, tuple[str, ...]] = {"task_run_state": ("data",), "flow_run_state": ("data",)}


def relocate(workspace: Workspace, old: Path) -> None:
    """Make what names the `old` place of this home name its present one. Repeating it is safe.

    Raises:
        StackError: a database or file cannot be changed.
    """
    moved = _moving(old, workspace.home)
    try:
        (workspace.home / SERVICES).unlink(missing_ok=True)
        for name in COMPILED:
            shutil.rmtree(workspace.cache / name, ignore_errors=True)
        for file, places in ((mlflow_file(workspace), MLFLOW), (prefect_file(workspace), PREFECT)):
            if file.is_file():
                with writing(file) as connection:
                    _rewrite_columns(connection, places, moved)
        if ledger_file(workspace).is_file():
            with writing(ledger_file(workspace)) as connection:
                if columns(connection, "evergreen_leases"):
                    connection.execute("DELETE FROM evergreen_leases")
        for file in _files(workspace):
            _rewrite_file(file, moved)
    except (sqlite3.Error, OSError) as error:
        raise StackError(
            f"{workspace.home} was at {old} before, and what says so cannot be changed ({error})",
            "stop whatever uses it, and run this again",
        ) from error


def _moving(old: Path, new: Path) -> Callable[[str], str]:
    """What replaces the old place by the new one in a text: as a path, in a URI, or in JSON."""
    escaped = [json.dumps(str(place))[1:-1] for place in (old, new)]
    forms = {escaped[0]: escaped[1], str(old): str(new)}
    in_uri = {quote(str(old)): quote(str(new))}
    # The new place may be below the old one: where it stands already it is replaced by itself.
    known = sorted({*forms, *forms.values(), *in_uri, *in_uri.values()}, key=len, reverse=True)
    places = "|".join(re.escape(form) for form in known)
    pattern = re.compile(rf"""(^|["'\s]|file://)({places})(?=[/"'\\\s]|$)""")

    def replacement(at: re.Match[str]) -> str:
        before, place = at.groups()
        return str(before) + (in_uri if before == "file://" else forms).get(place, place)

    return lambda text: pattern.sub(replacement, text)


def _rewrite_columns(
    connection: sqlite3.Connection, places: dict[str, tuple[str, ...]], moved: Callable[[str], str]
) -> None:
    connection.create_function(
        "moved", 1, lambda value: moved(value) if isinstance(value, str) else value
    )
    for table, names in places.items():
        for name in columns(connection, table).intersection(names):
            changed = f"{name} IS NOT NULL AND moved({name}) <> {name}"
            connection.execute(
                f"UPDATE {table} SET {name} = moved({name}) WHERE {changed}"  # noqa: S608
            )


def _files(workspace: Workspace) -> Iterator[Path]:
    """Stored results of stages, and MLflow's descriptions of models."""
    yield from (workspace.prefect / "storage").rglob("*")
    yield from (workspace.home / ARTIFACTS).rglob("MLmodel")


def _rewrite_file(file: Path, moved: Callable[[str], str]) -> None:
    if file.is_symlink() or not file.is_file():
        return
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return  # a pickled result of somebody else's flow: nothing of ours is stored so
    if (changed := moved(text)) != text:
        partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
        partial.write_text(changed, encoding="utf-8")
        partial.replace(file)


def recorded_place(workspace: Workspace) -> Path | None:
    """Where a home of format 1 was made, as MLflow knows it; None if it says nothing."""
    if not mlflow_file(workspace).is_file():
        return None
    connection = connect(mlflow_file(workspace))
    try:
        if not columns(connection, "experiments"):
            return None
        rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    finally:
        connection.close()
    for (location,) in rows:
        parts = urlsplit(location or "")
        path = unquote(parts.path)
        if parts.scheme in ("file", "") and path.endswith(f"/{ARTIFACTS}"):
            return Path(path.removesuffix(f"/{ARTIFACTS}"))
    return None
