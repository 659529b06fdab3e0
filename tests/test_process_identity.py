"""Whether a process still runs: known for certain, or said to be unknown."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from data_contracts import partial
from data_contracts.partial import partial_folder, publish, remove_abandoned
from data_contracts.process_identity import ProcessIdentity

# Makes an unfinished folder below argv[1], says its name, and waits to be killed.
WRITER = (
    "import sys, time; from pathlib import Path;"
    "from data_contracts.partial import partial_folder;"
    "print(partial_folder(Path(sys.argv[1])).name, flush=True); time.sleep(600)"
)
IDENTITY = (
    "import time; from data_contracts.process_identity import ProcessIdentity;"
    "print(ProcessIdentity.current().model_dump_json(), flush=True); time.sleep(600)"
)
NEW_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def start(script: str, *arguments: str, inside: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    command = [*inside, sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


def can_make_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*NEW_NAMESPACE, "true"], capture_output=True, check=False)
    return done.returncode == 0


needs_namespaces = pytest.mark.skipif(
    not can_make_namespaces(), reason="this machine does not let us make PID namespaces"
)


@pytest.fixture
def other() -> "Iterator[subprocess.Popen[str]]":
    process = start(IDENTITY)
    yield process
    end(process)


def test_this_process_runs() -> None:
    assert ProcessIdentity.current().fate() == "alive"


def test_a_process_is_alive_then_dead_also_before_anybody_waits_for_it(
    other: "subprocess.Popen[str]",
) -> None:
    identity = ProcessIdentity.model_validate_json(said(other))
    assert identity.fate() == "alive"
    os.kill(other.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    assert identity.fate() == "dead"
    other.wait()
    assert identity.fate() == "dead"


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    me = ProcessIdentity.current()
    earlier = me.model_copy(update={"started": str(int(me.started) - 1)})
    assert earlier.fate() == "dead"


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"host": "another"},
        {"boot": "7f2c11aa-0000-4000-8000-000000000000"},
        {"namespace": "4026539999-4026531834"},
    ],
)
def test_nothing_is_said_of_a_process_elsewhere(elsewhere: dict[str, str]) -> None:
    # Nobody here has this id, and it may run there all the same.
    gone = ProcessIdentity.current().model_copy(update={"pid": 2**22 - 1, **elsewhere})
    assert gone.fate() == "unknown"


def test_clocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    me = ProcessIdentity.current()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: real() - 86_400)
    assert ProcessIdentity.current() == me
    assert me.fate() == "alive"


def test_what_is_written_down_is_read_back() -> None:
    me = ProcessIdentity.current()
    assert ProcessIdentity.parse(me.host, str(me)) == me
    for broken in ("", "12", "12:1764000000.0", "x:1:2:3", "-4:1:2:3", "0:1:2:3"):
        assert ProcessIdentity.parse(me.host, broken) is None


# -- unfinished folders ---------------------------------------------------------------------------


def test_a_finished_folder_has_its_name_and_is_its_owners(tmp_path: Path) -> None:
    made = partial_folder(tmp_path)
    (made / "file").write_text("content")
    publish(made, tmp_path / "final")
    assert (tmp_path / "final" / "file").read_text() == "content"
    assert (tmp_path / "final").stat().st_mode & 0o077 == 0


def test_an_earlier_folder_of_the_name_makes_way(tmp_path: Path) -> None:
    for number in (1, 2):
        made = partial_folder(tmp_path)
        (made / f"file-{number}").touch()
        publish(made, tmp_path / "final")
    assert [path.name for path in (tmp_path / "final").iterdir()] == ["file-2"]
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_what_a_dead_process_left_goes_and_what_a_live_one_writes_stays(tmp_path: Path) -> None:
    dead, alive = start(WRITER, str(tmp_path)), start(WRITER, str(tmp_path))
    left, kept = said(dead), said(alive)
    mine = partial_folder(tmp_path)
    end(dead)
    try:
        remove_abandoned(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {kept, mine.name}
        assert not (tmp_path / left).exists()
    finally:
        end(alive)


@needs_namespaces
def test_a_writer_in_another_container_keeps_its_folder(tmp_path: Path) -> None:
    """Its process id means nothing here: there is none such, or it is somebody else's."""
    writer = start(WRITER, str(tmp_path), inside=NEW_NAMESPACE)
    try:
        name = said(writer)
        remove_abandoned(tmp_path)
        assert (tmp_path / name).is_dir()
    finally:
        end(writer)


@needs_namespaces
def test_a_container_leaves_the_folders_of_this_machine_alone(tmp_path: Path) -> None:
    mine = partial_folder(tmp_path)
    remove = (
        "import sys; from pathlib import Path;"
        "from data_contracts.partial import remove_abandoned; remove_abandoned(Path(sys.argv[1]))"
    )
    cleaner = start(remove, str(tmp_path), inside=NEW_NAMESPACE)
    assert cleaner.wait(60) == 0
    assert mine.is_dir()


@pytest.mark.parametrize(
    "name", [".partial-0123456789ab-4194303-77-x", ".partial-4194303-x", ".partial-odd"]
)
def test_what_nobody_here_can_judge_goes_when_nothing_was_written_for_long(
    tmp_path: Path, name: str
) -> None:
    """Makers elsewhere, the names of Evergreen 0.1.0, and whatever else."""
    folder = tmp_path / name
    (folder / "inner").mkdir(parents=True)
    remove_abandoned(tmp_path)
    assert folder.is_dir()
    old = time.time() - partial.SILENT_SECONDS - 60
    for path in (folder / "inner", folder):
        os.utime(path, (old, old))
    written = folder / "inner" / "file"
    written.write_text("just now")
    os.utime(folder / "inner", (old, old))
    remove_abandoned(tmp_path)
    assert written.exists()  # somebody writes into it
    os.utime(written, (old, old))
    remove_abandoned(tmp_path)
    assert not folder.exists()


def test_a_folder_of_a_live_process_stays_however_old(tmp_path: Path) -> None:
    mine = partial_folder(tmp_path)
    os.utime(mine, (0, 0))
    remove_abandoned(tmp_path)
    assert mine.is_dir()
