"""A home through the years: whose it is, which format it has, how it is migrated and moved."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import StackError
from data_contracts.home_format import FILE, FORMAT, UNFINISHED, HomeFormat
from data_contracts.permissions import let_others_read, tighten
from data_contracts.snapshots import RowAccount, Snapshot
from data_contracts.workspace import HOME, Workspace, located, stored
from tasks.evaluate import regression
from tasks.home import databases, migration
from tasks.home.opening import open_home
from tasks.home.relocation import _moving, recorded_place
from tasks.ledger import episodes, migrations, promotions, requests
from tasks.ledger.database import Ledger, LedgerSettings
from tests.commands import assert_one_line_error, evergreen
from tests.homes import MADE_AT, in_folder, modes, rows, unpack


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of Evergreen 0.1.0, in the folder with the settings and model it was made with."""
    return unpack(tmp_path_factory.mktemp("pristine") / "old")


@pytest.fixture
def old(pristine: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(pristine, tmp_path / "old")
    return Workspace(home=tmp_path / "old" / "home")


def contents(home: Path) -> dict[str, bytes]:
    """{name: content} of what is not new: no copies, locks or side files of databases."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
        and path.relative_to(home).parts[0] != migration.COPIES
        and not path.name.startswith(".")
        and path.suffix not in (".db-wal", ".db-shm", ".db")
    }


def dumps(home: Path) -> dict[str, str]:
    """Every table of every database, as SQL."""
    found = {}
    for file in databases.existing(Workspace(home=home)):
        with closing(sqlite3.connect(file)) as connection:
            found[file.name] = "\n".join(connection.iterdump())
    return found


# -- permissions ----------------------------------------------------------------------------------


def test_what_is_written_is_its_owners_whatever_the_umask(tmp_path: Path) -> None:
    script = (
        "import os, sys; os.umask(0); from pathlib import Path;"
        "from data_contracts.workspace import Workspace;"
        "home = Workspace(home=Path(sys.argv[1])); home.create();"
        "(home.home / 'runs').mkdir(); (home.home / 'runs' / 'log').touch();"
        "import subprocess; subprocess.run(['touch', str(home.home / 'child')], check=True)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "home")], check=True)
    assert (tmp_path / "home" / "child").is_file()
    assert modes(tmp_path / "home") == {}


def test_a_home_that_others_could_read_is_tightened(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o777)
    home.chmod(0o2777)
    Workspace(home=home).create()
    assert stat.S_IMODE(home.stat().st_mode) & 0o077 == 0


def test_tightening_follows_no_link_out_of_the_home(tmp_path: Path) -> None:
    outside, home = tmp_path / "outside", tmp_path / "home"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("x")
    (home / "inner").mkdir(parents=True)
    (home / "inner" / "tool").write_text("x")
    (home / "inner" / "tool").chmod(0o755)
    (home / "link").symlink_to(outside / "file")
    (home / "inner" / "folder").symlink_to(outside / "folder")
    os.mkfifo(home / "inner" / "fifo")
    for path in (outside, outside / "folder", outside / "file", home, home / "inner"):
        path.chmod(0o777)
    assert tighten(home) == 0
    assert stat.S_IMODE((home / "inner" / "tool").stat().st_mode) == 0o700
    assert {path for path in modes(home) if "fifo" not in path} == set()
    assert {oct(path.stat().st_mode & 0o777) for path in (outside, outside / "file")} == {"0o777"}
    assert stat.S_IMODE((outside / "folder").stat().st_mode) == 0o777


def test_what_is_exported_gets_the_users_own_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_contracts.permissions._users_umask", 0o027)
    folder = tmp_path / "export"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "weights").touch()
    let_others_read(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert stat.S_IMODE((folder / "inner" / "weights").stat().st_mode) == 0o640


def test_a_home_of_another_user_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: workspace.home.stat().st_uid + 1)
    with pytest.raises(StackError, match="belongs to user") as caught:
        workspace.create()
    assert "\n" not in str(caught.value)


# -- paths below the home -------------------------------------------------------------------------


def test_paths_are_stored_relative_and_found_where_the_home_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "a"))
    account = RowAccount(rows_in=1, rows_out=1)
    snapshot = Snapshot(path=str(tmp_path / "a/snapshots/x"), digest="d", account=account)
    text = snapshot.model_dump_json()
    assert str(tmp_path) not in text
    assert str(tmp_path) not in str(snapshot.model_dump())  # how Prefect stores results
    assert Snapshot.model_validate_json(text) == snapshot
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "b"))
    assert Snapshot.model_validate_json(text).path == str(tmp_path / "b/snapshots/x")


def test_paths_elsewhere_stay_as_they_are() -> None:
    home = Workspace.current().home
    for path in ("", "s3://bucket/snapshots/x", "/data/x", f"{home}-2/snapshots/x", str(home)):
        assert located(stored(path)) == stored(path) == path


@pytest.mark.parametrize("inside", ["../outside", "/etc/passwd", "a/../../b"])
def test_a_stored_path_does_not_lead_out_of_the_home(inside: str) -> None:
    with pytest.raises(ValueError, match="must stay in it"):
        located(HOME + inside)


# -- formats --------------------------------------------------------------------------------------


def test_a_new_home_says_what_it_is(workspace: Workspace) -> None:
    said = json.loads((workspace.home / FILE).read_text())
    assert said["format"] == FORMAT
    assert said["place"] == str(workspace.home)
    before = (workspace.home / FILE).stat().st_mtime_ns
    open_home(workspace)
    assert (workspace.home / FILE).stat().st_mtime_ns == before
    assert not (workspace.home / migration.COPIES).exists()


def test_a_new_ledger_revision_is_a_new_format() -> None:
    """So that no ledger is changed before its home was copied."""
    assert {1: "0001", 2: "0002", 3: "0003"}[FORMAT] == migrations.HEAD


@pytest.mark.parametrize(
    ("later", "says"),
    [
        ({"format": 99, "release": "9.9"}, ("format 99 (Evergreen 9.9)", f"format {FORMAT}")),
        ({"format": 99, "release": "9.9", "place": 7, "new": [1]}, ("format 99",)),
        ({"libraries": {"mlflow": "99.1.0", "prefect": "3.8.8"}}, ("mlflow 99.1.0", "mlflow 3.")),
    ],
)
def test_a_home_of_a_later_release_is_refused_in_one_line(
    tmp_path: Path, later: dict[str, Any], says: tuple[str, ...]
) -> None:
    home = Workspace(home=tmp_path / "home")
    home.create()
    said = json.loads((home.home / FILE).read_text())
    (home.home / FILE).write_text(json.dumps({**said, **later}))
    for arguments in (("models", "list"), ("scrub", "nothing.jsonl"), ("status",), ("up",)):
        assert_one_line_error(evergreen(*arguments, home=home.home), *says)
    assert {path.name for path in home.home.iterdir()} == {FILE}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "x"}', '{"format": 2}'])
def test_a_damaged_format_is_one_line(workspace: Workspace, content: str) -> None:
    (workspace.home / FILE).write_text(content)
    with pytest.raises(StackError, match=r"format\.json is damaged"):
        open_home(workspace)
    assert (workspace.home / FILE).read_text() == content


# -- migration ------------------------------------------------------------------------------------


def test_the_home_of_the_first_release_is_migrated_and_all_of_it_is_used(
    old: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old.home / "models").chmod(0o777)
    listed = in_folder(old.home.parent, "models", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    told = [
        line for line in listed.stderr.splitlines() if f"migrated from format 1 to {FORMAT}" in line
    ]
    assert len(told) == 1
    (copied,) = (old.home / migration.COPIES).iterdir()
    assert str(copied) in told[0]
    assert [(v["version"], v["aliases"]) for v in json.loads(listed.stdout)] == [
        ("2", ["champion"]),
        ("1", ["previous"]),
    ]
    checked = in_folder(old.home.parent, "models", "check", "champion", "--json")
    assert checked.returncode == 0, checked.stderr[-3000:]
    assert "migrated" not in checked.stderr
    assert json.loads(checked.stdout)["same"]
    back = in_folder(old.home.parent, "models", "rollback", "--json")
    assert back.returncode == 0, back.stderr[-3000:]
    assert json.loads(back.stdout)["champion"] == "1"

    monkeypatch.setenv("EVERGREEN_HOME", str(old.home))
    ledger = Ledger(LedgerSettings(), old)
    assert [(entry.action, entry.version) for entry in promotions.history(ledger, "evergreen")] == [
        ("rollback", "1"),
        ("promote", "2"),
        ("promote", "1"),
    ]
    drift, second, _ = requests.listing(ledger, "evergreen")
    assert [event.state for event in requests.story(ledger, second.id)][-1] == "finished"
    assert drift.evidence["report"].startswith(f"{old.home}/windows/")
    for window in episodes.drifted(ledger, drift):
        assert window.data.path.startswith(f"{old.home}/snapshots/")
        assert len(list(window.data.records())) > 10
        assert Path(window.report).is_file()
        assert Path(window.features).is_file()
    (addition,) = regression.additions(ledger, "evergreen")
    assert len(list(addition.snapshot.records())) == 1
    assert modes(old.home) == {}


def test_only_what_changes_is_copied_and_the_copy_is_the_home_as_it_was(old: Workspace) -> None:
    assert recorded_place(old) == MADE_AT
    before, tables = contents(old.home), dumps(old.home)
    open_home(old)
    (copied,) = (old.home / migration.COPIES).iterdir()
    kept = {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in kept} == {".db", ".json", ""}
    assert not any("snapshots" in name or "safetensors" in name for name in kept)
    after = contents(old.home)
    # A copy of digests that can be turned back is not kept.
    tables = {name: without_digests(dump) for name, dump in tables.items()}
    changed = {name for name in before if after.get(name) != before[name]}
    # Stored results of the first release name places too; its code's results are not used again.
    assert {name for name in changed if not name.startswith("prefect/storage/")} <= kept
    for name in kept:
        if name in before:
            assert (copied / name).read_bytes() == before[name]
    assert dumps(copied) == tables


def without_digests(dump: str) -> str:
    lines = dump.split("\n")
    return "\n".join(line for line in lines if not line.startswith('INSERT INTO "evergreen_seen"'))


def test_digests_without_a_key_are_nowhere_after_a_migration(old: Workspace) -> None:
    """Not in free pages either, nor in what the databases keep beside them."""
    ledger = old.home / "ledger.db"
    digests = [row[0] for row in rows(ledger, "SELECT digest FROM evergreen_seen")]
    newest = rows(ledger, "SELECT model, max(end) FROM evergreen_windows GROUP BY model")
    assert len(digests) > 100
    shard = old.cache / "scrub" / "00112233.parquet"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(digests[0])
    open_home(old)
    assert not shard.parent.exists()
    files = [file for file in old.home.rglob("*") if ".db" in file.name]
    assert len(files) > 4
    for file in files:
        content = file.read_bytes()
        assert not any(digest in content for digest in digests), file
    opened = Ledger(LedgerSettings(), old)
    assert [("evergreen", episodes.take_key(opened, "evergreen", "new"))] == newest


def failing(step: str) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, f"no room for {step}")

    return fail


@pytest.mark.parametrize(
    "step",
    ["_make_documents_relative", "_upgrade_ledger", "_upgrade_mlflow", "relocate", "tighten"],
)
def test_a_migration_that_fails_leaves_the_home_as_it_was(
    old: Workspace, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, tables = contents(old.home), dumps(old.home)
    with monkeypatch.context() as patch:
        patch.setattr(migration, step, failing(step))
        with pytest.raises(StackError, match=f"no room for {step}") as caught:
            open_home(old)
    assert "\n" not in str(caught.value)
    after = contents(old.home)
    assert {name for name in before if after.get(name) != before[name]} <= {
        name for name in before if name.startswith("prefect/storage/")
    }
    assert set(after) == set(before)
    assert dumps(old.home) == tables
    assert list((old.home / migration.COPIES).iterdir()) == []
    open_home(old)  # the cause is gone
    assert HomeFormat.read(old.home) is not None


KILLED = """
import os, signal, sys
from pathlib import Path
from data_contracts.workspace import Workspace
from tasks.home import migration, opening
step = sys.argv[2]
real = getattr(migration, step)
def die(*arguments, **named):
    if sys.argv[3] == "after":
        real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(migration, step, die)
opening.open_home(Workspace(home=Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("step", "when"),
    [
        ("_copy_first", "before"),
        ("_copy_first", "after"),
        ("_upgrade_ledger", "after"),
        ("relocate", "after"),
        ("tighten", "before"),
    ],
)
def test_a_migration_that_is_killed_is_done_again_from_its_copy(
    old: Workspace, step: str, when: str
) -> None:
    script = [sys.executable, "-c", KILLED, str(old.home), step, when]
    assert subprocess.run(script, check=False).returncode == -9
    ledger = Ledger(LedgerSettings(), old)
    found = HomeFormat.read(old.home)
    assert found is not None
    assert found.is_current(old.home)
    assert not (old.home / UNFINISHED).exists()
    with ledger.transaction("evergreen") as connection:
        assert migrations.current(connection) == migrations.HEAD
    (location,) = rows(
        old.home / "mlflow" / "mlflow.db",
        "SELECT artifact_location FROM experiments WHERE name = 'evergreen'",
    )
    assert location == ((old.home / "mlflow" / "artifacts").as_uri(),)
    for document in (old.home / "mlflow").rglob("holdout.json"):
        assert json.loads(document.read_text())["path"].startswith(f"{HOME}snapshots/holdout-")


def test_a_kill_between_the_last_step_and_its_mark_keeps_what_was_done(old: Workspace) -> None:
    open_home(old)
    (copied,) = (old.home / migration.COPIES).iterdir()
    done = HomeFormat.read(old.home)
    assert done is not None
    cut_off = migration.Unfinished(copy_of=str(copied.relative_to(old.home)), to=done)
    (old.home / UNFINISHED).write_text(cut_off.model_dump_json())
    open_home(old)
    assert not (old.home / UNFINISHED).exists()
    assert len(list((old.home / migration.COPIES).iterdir())) == 1
    assert HomeFormat.read(old.home) == done


def test_of_several_that_come_at_once_one_migrates_and_the_others_wait(old: Workspace) -> None:
    script = (
        "import sys; from pathlib import Path; from data_contracts.workspace import Workspace;"
        "from tasks.ledger.database import *; from tasks.ledger import requests;"
        "ledger = Ledger(LedgerSettings(), Workspace(home=Path(sys.argv[1])));"
        "print(len(requests.listing(ledger)))"
    )
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(
                lambda _: subprocess.run(
                    [sys.executable, "-c", script, str(old.home)],
                    capture_output=True,
                    text=True,
                    check=True,
                ),
                range(4),
            )
        )
    assert {one.stdout for one in done} == {"3\n"}
    assert sum("migrated" in one.stderr for one in done) == 1
    assert len(list((old.home / migration.COPIES).iterdir())) == 1


def test_no_room_for_the_copy_is_one_line_and_nothing_is_changed(
    old: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(old.home)
    usage = shutil.disk_usage(old.home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StackError, match="takes a copy of"):
        open_home(old)
    assert contents(old.home) == before


@pytest.fixture
def server() -> Any:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()


def test_a_home_in_use_is_not_migrated(old: Workspace, server: HTTPServer) -> None:
    with closing(sqlite3.connect(old.home / "mlflow" / "mlflow.db")) as connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = ?",
            ((old.home / "mlflow" / "artifacts").as_uri(),),
        )
        connection.commit()
    url = f"http://127.0.0.1:{server.server_port}"
    (old.home / "services.json").write_text(json.dumps({"the Prefect server": url}))
    before = contents(old.home)
    with pytest.raises(StackError, match=url):
        open_home(old)
    (old.home / "services.json").unlink()
    with closing(sqlite3.connect(old.home / "ledger.db")) as connection:
        connection.execute(
            "INSERT INTO evergreen_leases VALUES ('m', 't', 'box', '12:1764000000.0', 'drift r',"
            " strftime('%Y-%m-%d %H:%M:%f', 'now'))"
        )
        connection.commit()
    with pytest.raises(StackError, match="a retrain of 'm' on box, process 12"):
        open_home(old)
    after = contents(old.home)
    assert {name: after[name] for name in after} == {
        name: content for name, content in before.items() if name != "services.json"
    }


def test_tables_of_an_older_mlflow_are_upgraded_after_a_copy(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that was last used with the MLflow before one more revision of its tables."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
    from sqlalchemy import create_engine, text

    file = databases.mlflow_file(workspace)
    file.parent.mkdir(parents=True)
    engine = create_engine(f"sqlite:///{file}")
    config = utils._get_alembic_config(f"sqlite:///{file}")
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head is not None
    before = ScriptDirectory.from_config(config).get_revision(head).down_revision
    assert isinstance(before, str)
    InitialBase.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, before)
        connection.execute(
            text(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage)"
                " VALUES (7, 'mine', :place, 'active')"
            ),
            {"place": (workspace.mlflow / "artifacts").as_uri()},
        )
    engine.dispose()
    said = json.loads((workspace.home / FILE).read_text())
    said["libraries"]["mlflow"] = "3.0.0"
    (workspace.home / FILE).write_text(json.dumps(said))
    open_home(workspace)
    (copied,) = (workspace.home / migration.COPIES).iterdir()
    assert rows(copied / "mlflow" / "mlflow.db", "SELECT version_num FROM alembic_version") == [
        (before,)
    ]
    assert rows(file, "SELECT version_num FROM alembic_version") == [(head,)]
    assert rows(file, "SELECT name FROM experiments WHERE experiment_id = 7") == [("mine",)]
    found = HomeFormat.read(workspace.home)
    assert found is not None
    assert found.is_current(workspace.home)


# -- moving ---------------------------------------------------------------------------------------


def test_places_are_rewritten_where_they_stand_and_nowhere_else() -> None:
    moved = _moving(Path("/a/my home"), Path("/a/my home/new ü"))
    for text, wanted in {
        "/a/my home": "/a/my home/new ü",
        "/a/my home/x": "/a/my home/new ü/x",
        "file:///a/my%20home/mlflow": "file:///a/my%20home/new%20%C3%BC/mlflow",
        '{"uri": "/a/my home/x"}': '{"uri": "/a/my home/new ü/x"}',
        '{\\"path\\": \\"/a/my home/x\\"}': '{\\"path\\": \\"/a/my home/new ü/x\\"}',
        "/a/my home2/x": "/a/my home2/x",
        "/b/a/my home/x": "/b/a/my home/x",
        "s3://a/my home/x": "s3://a/my home/x",
        "see /a/my home/x": "see /a/my home/new ü/x",
    }.items():
        assert moved(text) == wanted, text
        assert moved(moved(text)) == wanted, text


@pytest.fixture
def used(old: Workspace) -> Workspace:
    open_home(old)
    return old


def test_a_home_that_was_moved_knows_its_new_place(used: Workspace, tmp_path: Path) -> None:
    new = tmp_path / "elsewhere" / "my home ü"
    new.parent.mkdir()
    used.home.rename(new)
    shutil.copytree(tmp_path / "old" / "model", tmp_path / "elsewhere" / "model")
    shutil.copy(tmp_path / "old" / "evergreen.yaml", tmp_path / "elsewhere")
    shutil.copy(tmp_path / "old" / "policy.yaml", tmp_path / "elsewhere")
    checked = in_folder(tmp_path / "elsewhere", "models", "check", "champion", "--json", home=new)
    assert checked.returncode == 0, checked.stderr[-3000:]
    assert json.loads(checked.stdout)["same"]
    for content in dumps(new).values():
        for line in content.splitlines():
            if 'INSERT INTO "events"' in line or 'INSERT INTO "artifact' in line:
                continue  # what happened, as it was told then
            assert str(used.home) not in line, line[:300]
    assert modes(new) == {}


def test_a_home_in_use_at_its_old_place_is_not_told_another(
    used: Workspace, tmp_path: Path, server: HTTPServer
) -> None:
    """The same folder under a second name, as where a container mounts it."""
    url = f"http://127.0.0.1:{server.server_port}"
    (used.home / "services.json").write_text(json.dumps({"the Prefect server": url}))
    new = Workspace(home=tmp_path / "mounted")
    used.home.rename(new.home)
    with pytest.raises(StackError, match="has to be moved here, and is used by a server"):
        open_home(new)
    found = HomeFormat.read(new.home)
    assert found is not None
    assert found.place == str(used.home)


def test_what_runs_on_the_original_does_not_run_on_a_copy(
    used: Workspace, tmp_path: Path, server: HTTPServer
) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    (used.home / "services.json").write_text(json.dumps({"the Prefect server": url}))
    with closing(sqlite3.connect(used.home / "ledger.db")) as connection:
        connection.execute(
            "INSERT INTO evergreen_leases VALUES ('evergreen', 't', 'box', '12:1764000000.0',"
            " 'drift r', strftime('%Y-%m-%d %H:%M:%f', 'now'))"
        )
        connection.commit()
    copy = Workspace(home=tmp_path / "copy")
    shutil.copytree(used.home, copy.home)
    open_home(copy)
    assert not (copy.home / "services.json").exists()
    assert rows(copy.home / "ledger.db", "SELECT * FROM evergreen_leases") == []
    # The original keeps both.
    assert (used.home / "services.json").exists()
    assert len(rows(used.home / "ledger.db", "SELECT * FROM evergreen_leases")) == 1
