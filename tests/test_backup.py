"""A home in one file: whole though it is in use, and back at any place, whole or not at all."""

import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_contracts.errors import StackError
from data_contracts.home_format import FILE, UNFINISHED, HomeFormat
from data_contracts.home_keys import home_key
from data_contracts.records import Message, Record
from data_contracts.snapshots import SnapshotWriter, write_records
from data_contracts.workspace import Workspace
from tasks import registry
from tasks.home import databases, migration
from tasks.home.backup import CHECKSUMS, HALF, HEADER, MODELS, back_up
from tasks.home.opening import open_home
from tasks.home.restoring import Restored, restore
from tasks.ledger import promotions
from tests.commands import assert_one_line_error, evergreen
from tests.homes import modes, unpack
from tests.registries import Registry


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of today with two champions and windows, and a key."""
    workspace = Workspace(home=unpack(tmp_path_factory.mktemp("pristine") / "old") / "home")
    open_home(workspace)
    home_key(workspace, "rows")
    return workspace.home


@pytest.fixture
def used(pristine: Path, tmp_path: Path) -> Workspace:
    workspace = Workspace(home=tmp_path / "home")
    shutil.copytree(pristine, workspace.home, symlinks=True)
    open_home(workspace)
    return workspace


@pytest.fixture(scope="module")
def whole(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of that home."""
    file = tmp_path_factory.mktemp("backups") / "home.tar.zst"
    back_up(Workspace(home=pristine), file)
    return file


@pytest.fixture
def new(tmp_path: Path) -> Workspace:
    (tmp_path / "new").mkdir()
    return Workspace(home=tmp_path / "new" / "home")


def read(file: Path) -> dict[str, bytes]:
    """{name: content} of what is in a backup."""
    with file.open("rb") as packed, pa.CompressedInputStream(packed, "zstd") as plain:
        with tarfile.open(fileobj=plain, mode="r|") as archive:
            found = {}
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                found[member.name] = content.read()
            return found


def entry(name: str, content: bytes = b"x", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def write(file: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with file.open("wb") as plain, pa.CompressedOutputStream(plain, "zstd") as packed:
        with tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for info, content in entries:
                archive.addfile(info, io.BytesIO(content))


def assert_nothing_there(workspace: Workspace) -> None:
    assert list(workspace.home.parent.iterdir()) == []


# -- there and back -------------------------------------------------------------------------------


def test_a_backup_is_restored_at_another_place_and_all_of_it_is_used(
    used: Workspace, new: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = back_up(used, tmp_path / "home.tar.zst")
    assert saved.holds_keys
    assert saved.files == len(read(tmp_path / "home.tar.zst")) - 2
    assert stat.S_IMODE((tmp_path / "home.tar.zst").stat().st_mode) == 0o600
    key = home_key(used, "rows")
    shutil.rmtree(used.home)
    made = restore(tmp_path / "home.tar.zst", new)
    assert made == Restored(
        home=str(new.home),
        made_at=made.made_at,
        files=saved.files,
        bytes=saved.home_bytes,
        replaced=None,
    )
    monkeypatch.setenv("EVERGREEN_HOME", str(new.home))
    known = Registry(new)
    known.check()
    assert known.done() == [("promote", "1"), ("promote", "2")]
    loaded = registry.load(registry.find(known.client, "evergreen", "champion"))
    assert loaded.holdout.path.startswith(str(new.home))
    loaded.holdout.verify()
    assert loaded.train is not None
    loaded.train.verify()
    assert home_key(new, "rows") == key
    assert modes(new.home) == {}


def test_backup_and_restore_as_commands(used: Workspace, new: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "home.tar.zst"
    done = evergreen(
        "backup", file, home=used.home, EVERGREEN_LEDGER__URL="postgresql://me:secret@db/ledger"
    )
    assert done.returncode == 0, done.stderr
    assert "It holds the keys of this home" in done.stdout
    assert "not in it: the ledger at postgresql://db/ledger" in done.stdout
    assert "secret" not in done.stdout.replace("as secret as", "")
    again = evergreen("backup", file, home=used.home)
    assert_one_line_error(again, "is there already")
    back = evergreen("restore", file, "--json", home=new.home)
    assert back.returncode == 0, back.stderr
    assert json.loads(back.stdout)["home"] == str(new.home)
    second = evergreen("restore", file, home=new.home)
    assert_one_line_error(second, "there is a home at", "--replace")


def test_a_backup_of_an_older_home_is_migrated_when_it_is_restored(
    tmp_path: Path, new: Workspace
) -> None:
    old = Workspace(home=unpack(tmp_path / "old") / "home")
    back_up(old, tmp_path / "home.tar.zst")
    assert HomeFormat.read(old.home) is None  # a backup changes nothing
    restore(tmp_path / "home.tar.zst", new)
    found = HomeFormat.read(new.home)
    assert found is not None
    assert found.is_current(new.home)
    assert len(list((new.home / migration.COPIES).iterdir())) == 1


# -- what is in it --------------------------------------------------------------------------------


def test_what_can_be_made_again_or_is_half_written_is_left_out_and_counted(
    used: Workspace, tmp_path: Path
) -> None:
    home = used.home
    for name in (
        "cache/scrub/rows.parquet",
        "prefect/server.log",
        "services.json",
        "models/.detector-1.lock",
        "models/detector-1/weights.safetensors",
        "models/hub/models--a--b/blobs/0123",
        "runs/train-9/spec.json",
        "runs/train-9/checkpoints/step-0000001/state.safetensors",
        "snapshots/.partial-0123456789ab-1-1-x/part.parquet",
        "models/0123.77.partial",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")
    link = home / "models/hub/models--a--b/snapshots/main/model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(home / "models/hub/models--a--b/blobs/0123")
    (tmp_path / "outside").write_text("of somebody else")
    (home / "runs" / "outside").symlink_to(tmp_path / "outside")
    for path in home.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (time.time() - 60, time.time() - 60))
    saved = back_up(used, tmp_path / "a.tar.zst")
    names = set(read(tmp_path / "a.tar.zst"))
    assert not [name for name in names if name.startswith(("cache/", "runs/train-9", "."))]
    assert not [
        name
        for name in names
        if name.endswith(("server.log", ".lock", ".partial", "services.json"))
    ]
    assert not [name for name in names if ".partial-" in name or name == "runs/outside"]
    # The Hub's file is there once, as a file.
    assert "models/hub/models--a--b/snapshots/main/model.safetensors" in names
    assert "models/hub/models--a--b/blobs/0123" not in names
    assert {"models/detector-1/weights.safetensors", "keys/rows", FILE} <= names
    assert saved.left_out[HALF] == 4
    small = back_up(used, tmp_path / "b.tar.zst", without_models=True)
    names_of_small = set(read(tmp_path / "b.tar.zst"))
    assert small.left_out[MODELS] == 2
    assert not [
        name for name in names_of_small if name.startswith(("models/detector", "models/hub"))
    ]
    # Which tokenizer belongs to a base is not made again.
    assert [name for name in names_of_small if name.startswith("models/")]


def test_a_folder_of_the_home_may_be_on_another_disk(
    used: Workspace, tmp_path: Path, new: Workspace
) -> None:
    (tmp_path / "disk").mkdir()
    (used.home / "snapshots").rename(tmp_path / "disk" / "snapshots")
    (used.home / "snapshots").symlink_to(tmp_path / "disk" / "snapshots")
    back_up(used, tmp_path / "home.tar.zst")
    restore(tmp_path / "home.tar.zst", new)
    assert not (new.home / "snapshots").is_symlink()
    found = {path.name for path in (new.home / "snapshots").iterdir()}
    assert found == {path.name for path in (tmp_path / "disk" / "snapshots").iterdir()}


class Busy:
    """Something that goes on in threads until the block ends."""

    def __init__(self, *works: Callable[[int], None]) -> None:
        self._ended = threading.Event()
        self.errors: list[BaseException] = []
        self.rounds = [0] * len(works)
        self._threads = [
            threading.Thread(target=self._go_on, args=(index, work))
            for index, work in enumerate(works)
        ]

    def _go_on(self, index: int, work: Callable[[int], None]) -> None:
        try:
            while not self._ended.is_set():
                work(self.rounds[index])
                self.rounds[index] += 1
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.errors.append(error)

    def __enter__(self) -> "Busy":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def records(number: int) -> list[Record]:
    text = f"how is it in lima, for the {number}th time?"
    message = Message(role="user", content=text)
    answer = Message(role="assistant", content="warm")
    return [Record(id=f"r{number}", messages=(message, answer), source="test")]


def test_a_backup_is_of_one_moment_while_all_goes_on(
    used: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Champions change, snapshots are published, documents are half-written: what comes back holds
    together every time."""
    known = Registry(used)
    real = databases.copy

    def copy_slowly(source: Path, target: Path) -> None:
        real(source, target)
        time.sleep(0.5)

    monkeypatch.setattr(databases, "copy", copy_slowly)
    slow = used.mlflow / "artifacts" / "slow"
    slow.mkdir(parents=True)

    def change_champions(number: int) -> None:
        before, after = ("2", "1") if number % 2 == 0 else ("1", "2")
        promotions.make_champion(
            known.client, known.ledger, "evergreen", after,
            action="rollback", judged_against=before, by="me", reason=str(number),
        )  # fmt: skip

    def publish_snapshots(number: int) -> None:
        write_records(
            str(used.snapshots), "busy", records(number), parent=None, provenance={}
        ).verify()
        time.sleep(0.02)

    def write_documents(number: int) -> None:
        with (slow / f"{number}.json").open("w") as file:
            file.write('{"half": ')
            file.flush()
            time.sleep(0.05)
            file.write(f"{number}}}")

    def write_half_snapshots(number: int) -> None:
        with SnapshotWriter(str(used.snapshots), "never", parent=None, provenance={}) as writer:
            writer.write(records(number)[0])
            time.sleep(0.05)

    def write_logs(number: int) -> None:
        with (used.prefect / "storage" / "log").open("a") as file:
            file.write(f"line {number}\n")
        time.sleep(0.001)

    works = (
        change_champions, publish_snapshots, write_documents, write_half_snapshots, write_logs
    )  # fmt: skip
    files = [tmp_path / f"{number}.tar.zst" for number in range(3)]
    with Busy(*works) as busy:
        for file in files:
            time.sleep(1)
            back_up(used, file)
    assert busy.errors == []
    assert all(count > 3 for count in busy.rounds), busy.rounds
    lengths = []
    for number, file in enumerate(files):
        there = Workspace(home=tmp_path / f"restored-{number}" / "home")
        restore(file, there)
        restored = Registry(there)
        restored.settle()  # a change may have been between its two transactions
        restored.check()
        # The registry was of the same moment as the history: else somebody else changed it.
        assert {one.action for one in restored.history()} <= {"promote", "rollback"}
        lengths.append(len(restored.history()))
        for document in (there.mlflow / "artifacts").rglob("*.json"):
            json.loads(document.read_text())
        assert not list(there.home.rglob(".partial-*"))
        for folder in there.snapshots.iterdir():
            assert (folder / "manifest.json").is_file()
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_a_promotion_cut_off_in_the_middle_is_finished_after_a_restore(
    used: Workspace, new: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Registry(used)
    with known.ledger.transaction("evergreen") as connection:
        promotions._write(connection, "evergreen", "rollback", "1", "2", "intended", "me", "cut")
    known.set_alias("previous", "2")
    back_up(used, tmp_path / "home.tar.zst")
    restore(tmp_path / "home.tar.zst", new)
    restored = Registry(new)
    assert [one.state for one in restored.settle()] == ["done"]
    restored.check()
    assert restored.aliases()["champion"] == "1"


# -- what cannot be done --------------------------------------------------------------------------


def test_a_backup_that_finds_no_room_leaves_nothing(used: Workspace, tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path;"
        "from data_contracts.workspace import Workspace; from tasks.home.backup import back_up;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000));"
        "back_up(Workspace(home=Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, str(used.home), str(out / "home.tar.zst")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("place", ["home/inside.tar.zst", "nowhere/home.tar.zst"])
def test_where_a_backup_cannot_be(used: Workspace, tmp_path: Path, place: str) -> None:
    with pytest.raises(StackError) as caught:
        back_up(used, tmp_path / place)
    assert "\n" not in str(caught.value)


def test_no_home_and_half_a_migration_are_no_backup(used: Workspace, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="there is no home"):
        back_up(Workspace(home=tmp_path / "none"), tmp_path / "a.tar.zst")
    (used.home / UNFINISHED).write_text("{}")
    with pytest.raises(StackError, match="was cut off"):
        back_up(used, tmp_path / "a.tar.zst")
    assert not (tmp_path / "a.tar.zst").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_a_truncated_backup_is_one_line_and_restores_nothing(
    whole: Path, new: Workspace, tmp_path: Path, share: float
) -> None:
    cut = tmp_path / "cut.tar.zst"
    content = whole.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(StackError, match="is no whole backup") as caught:
        restore(cut, new)
    assert "\n" not in str(caught.value)
    assert_nothing_there(new)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 0.95])
def test_a_corrupt_backup_is_one_line_and_restores_nothing(
    whole: Path, new: Workspace, tmp_path: Path, share: float
) -> None:
    content = bytearray(whole.read_bytes())
    for offset in range(20):
        content[int(share * len(content)) + offset] ^= 0xFF
    corrupt = tmp_path / "corrupt.tar.zst"
    corrupt.write_bytes(content)
    with pytest.raises(StackError, match="is no whole backup") as caught:
        restore(corrupt, new)
    assert "\n" not in str(caught.value)
    assert_nothing_there(new)


@pytest.mark.parametrize("content", [b"", b"text", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08\x00abc"])
def test_another_file_is_one_line(new: Workspace, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    for file in (tmp_path / "file", tmp_path / "none", tmp_path):
        with pytest.raises(StackError) as caught:
            restore(file, new)
        assert "\n" not in str(caught.value)
    assert_nothing_there(new)


def hostile(name: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    return {
        "up": [entry("../evil")],
        "up amid": [entry("runs/../../evil")],
        "absolute": [entry("/tmp/evergreen-evil")],  # noqa: S108 - must not be written
        "doubled slash": [entry("runs//x")],
        "dot": [entry("./x")],
        "symlink": [entry("link", b"", type=tarfile.SYMTYPE, linkname="/etc"), entry("link/x")],
        "symlink inside": [entry("link", b"", type=tarfile.SYMTYPE, linkname="runs")],
        "hard link": [entry("link", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
        "device": [entry("zero", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5)],
        "pipe": [entry("pipe", b"", type=tarfile.FIFOTYPE)],
        "folder": [entry("folder", b"", type=tarfile.DIRTYPE)],
        "twice": [entry("a", b"1"), entry("a", b"2")],
        "file and folder": [entry("a", b"1"), entry("a/b", b"2")],
        "long name": [entry("a" * 300)],
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "up", "up amid", "absolute", "doubled slash", "dot", "symlink", "symlink inside",
        "hard link", "device", "pipe", "folder", "twice", "file and folder", "long name",
    ],
)  # fmt: skip
def test_a_hostile_backup_is_refused_whole(
    whole: Path, new: Workspace, tmp_path: Path, name: str
) -> None:
    evil = hostile(name)
    header = json.loads(read(whole)[HEADER])
    sums = {info.name: hashlib.sha256(content).hexdigest() for info, content in evil}
    file = tmp_path / "evil.tar.zst"
    write(
        file,
        [
            entry(HEADER, json.dumps(header).encode()),
            *evil,
            entry(CHECKSUMS, json.dumps(sums).encode()),
        ],
    )
    with pytest.raises(StackError, match="is no whole backup") as caught:
        restore(file, new)
    assert "\n" not in str(caught.value)
    assert_nothing_there(new)
    assert not (tmp_path / "evil").exists()
    assert not Path("/tmp/evergreen-evil").exists()  # noqa: S108


def changed(whole: Path, change: Callable[[dict[str, bytes]], None], file: Path) -> Path:
    content = read(whole)
    change(content)
    ends = (HEADER, CHECKSUMS)
    write(
        file,
        [
            entry(HEADER, content[HEADER]),
            *(entry(name, content[name]) for name in content if name not in ends),
            *([entry(CHECKSUMS, content[CHECKSUMS])] if CHECKSUMS in content else []),
        ],
    )
    return file


def lose_a_file(content: dict[str, bytes]) -> None:
    del content["ledger.db"]


def change_a_file(content: dict[str, bytes]) -> None:
    content["keys/rows"] = b"0" * 64 + b"\n"


def add_a_file(content: dict[str, bytes]) -> None:
    content["models/more"] = b""


def lose_the_sums(content: dict[str, bytes]) -> None:
    del content[CHECKSUMS]


def say_less(content: dict[str, bytes]) -> None:
    content[HEADER] = json.dumps({**json.loads(content[HEADER]), "bytes": 1000}).encode()


def no_header(content: dict[str, bytes]) -> None:
    content[HEADER] = b"{}"


@pytest.mark.parametrize(
    "change", [lose_a_file, change_a_file, add_a_file, lose_the_sums, say_less, no_header]
)
def test_a_backup_that_was_changed_is_refused(
    whole: Path, new: Workspace, tmp_path: Path, change: Callable[[dict[str, bytes]], None]
) -> None:
    file = changed(whole, change, tmp_path / "changed.tar.zst")
    with pytest.raises(StackError, match="is no whole backup"):
        restore(file, new)
    assert_nothing_there(new)


def test_a_backup_of_a_later_release_is_refused_in_one_line(
    whole: Path, new: Workspace, tmp_path: Path
) -> None:
    def later(content: dict[str, bytes]) -> None:
        header = json.loads(content[HEADER])
        header["home"]["format"] = 99
        content[HEADER] = json.dumps(header).encode()

    file = changed(whole, later, tmp_path / "later.tar.zst")
    with pytest.raises(StackError, match="format 99") as caught:
        restore(file, new)
    assert "\n" not in str(caught.value)
    assert_nothing_there(new)


def test_a_backup_that_needs_more_room_than_there_is_is_refused_before(
    whole: Path, new: Workspace, tmp_path: Path
) -> None:
    def huge(content: dict[str, bytes]) -> None:
        content[HEADER] = json.dumps({**json.loads(content[HEADER]), "bytes": 10**18}).encode()

    file = changed(whole, huge, tmp_path / "huge.tar.zst")
    with pytest.raises(StackError, match="GB needed"):
        restore(file, new)
    assert_nothing_there(new)


def test_a_home_that_is_there_is_put_aside_only_when_told(
    used: Workspace, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (used.home / "mine").write_text("x")
    with pytest.raises(StackError, match="there is a home at"):
        restore(whole, used)
    made = restore(whole, used, replace=True)
    assert made.replaced is not None
    assert (Path(made.replaced) / "mine").is_file()
    assert not (used.home / "mine").exists()
    Registry(used).check()


def test_a_home_in_use_is_not_put_aside(used: Workspace, whole: Path) -> None:
    with closing(sqlite3.connect(used.home / "ledger.db")) as connection:
        connection.execute(
            "INSERT INTO evergreen_leases VALUES ('m', 't', 'box', '12:1764000000.0', 'drift r',"
            " strftime('%Y-%m-%d %H:%M:%f', 'now'))"
        )
        connection.commit()
    with pytest.raises(StackError, match="is used by a retrain of 'm' on box"):
        restore(whole, used, replace=True)
    assert (used.home / FILE).is_file()


def test_a_home_that_holds_nothing_yet_is_no_hindrance(whole: Path, new: Workspace) -> None:
    new.create()
    assert restore(whole, new).replaced is None
    assert [path.name for path in new.home.parent.iterdir()] == ["home"]


def test_a_rename_that_fails_puts_the_earlier_home_back(
    used: Workspace, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (used.home / "mine").write_text("x")
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name.startswith(".partial-"):
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StackError):
        restore(whole, used, replace=True)
    assert (used.home / "mine").is_file()
    assert not list(used.home.parent.glob("*before-restore*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from data_contracts.workspace import Workspace
from tasks.home import restoring
real = restoring._write
seen = []
def die(content, target, mode):
    seen.append(target)
    if len(seen) == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(content, target, mode)
restoring._write = die
restoring.restore(Path(sys.argv[1]), Workspace(home=Path(sys.argv[2])))
"""


def test_a_restore_that_is_killed_leaves_no_home_and_the_next_cleans_up(
    whole: Path, new: Workspace
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(whole), str(new.home)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not new.home.exists()
    assert len(list(new.home.parent.glob(".partial-*"))) == 1
    restore(whole, new)
    assert [path.name for path in new.home.parent.iterdir()] == ["home"]
