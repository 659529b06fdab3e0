"""A full or read-only disk, on a real file system: one line, and nothing half-written."""

import errno
import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer
from safetensors.torch import save_file

from data_contracts.disk import disk_error, disk_errors, require_writable, unwritable
from data_contracts.errors import DataError, DiskError, EvergreenError
from data_contracts.partial import write_whole
from data_contracts.workspace import Workspace
from flows.cli import READ_ONLY, WITHOUT_HOME, app, run
from models import checkpoints
from models.spec import ADAPTER, CHECKPOINTS, LOG, METRICS, Phase, StepMetrics
from tasks.train import Event, TrainSettings, train
from tests.commands import (
    TINY,
    assert_one_line_error,
    command,
    environment,
    evergreen,
    tiny_settings,
)
from tests.disks import Disk, mounted
from tests.jobs import job
from tests.tiny import conversations, write_jsonl


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk") as made:
        yield made


# -- what libraries say --------------------------------------------------------------


def by_python(folder: Path) -> None:
    (folder / "file").write_bytes(bytes(1 << 20))


def by_safetensors(folder: Path) -> None:
    save_file({"a": torch.zeros(1 << 18)}, folder / "a.safetensors")


def by_arrow(folder: Path) -> None:
    pq.write_table(pa.table({"a": [os.urandom(1 << 20)]}), folder / "a.parquet")


def by_sqlite(folder: Path) -> None:
    with sqlite3.connect(folder / "a.db") as connection:
        connection.execute("create table if not exists a (a blob)")
        connection.execute("insert into a values (zeroblob(1000000))")


def by_sqlalchemy(folder: Path) -> None:
    from sqlalchemy import create_engine, text

    with create_engine(f"sqlite:///{folder / 'b.db'}").begin() as connection:
        connection.execute(text("create table if not exists a (a blob)"))
        connection.execute(text("insert into a values (zeroblob(1000000))"))


def by_torch(folder: Path) -> None:
    torch.save(torch.zeros(1 << 18), folder / "a.pt")


def by_mlflow(folder: Path) -> None:
    import mlflow

    mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").create_experiment("a")


WRITERS = (by_python, by_safetensors, by_arrow, by_sqlite, by_sqlalchemy, by_torch, by_mlflow)


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_one_error_whoever_notices_it(
    disk: Disk, write: Callable[[Path], None]
) -> None:
    (disk.path / "what-is-there").write_bytes(bytes(1 << 16))
    disk.fill(room=8192)
    with pytest.raises(DiskError, match="the disk is full") as caught, disk_errors(disk.path):
        write(disk.path)
    assert str(disk.path) in caught.value.problem, "it does not say which disk"
    assert "\n" not in str(caught.value)
    again = disk.path / "again"
    disk.make_room()
    again.mkdir()
    write(again)


@pytest.mark.parametrize("write", WRITERS[:-1])  # MLflow tries for a minute and a half
def test_a_read_only_disk_is_one_error_whoever_notices_it(
    disk: Disk, write: Callable[[Path], None]
) -> None:
    disk.make_read_only()
    with pytest.raises(DiskError, match="is read-only"), disk_errors(disk.path):
        write(disk.path)
    with pytest.raises(DiskError, match="is read-only"):
        require_writable(disk.path / "not" / "made")
    disk.make_writable()
    require_writable(disk.path / "not" / "made")


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001 - it is what was asked for
        return caught


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/home/x"), True),
        (OSError(errno.EROFS, "Read-only file system", "/mnt/x"), True),
        (PermissionError(errno.EACCES, "Permission denied", "/mnt/x"), True),
        (raised(RuntimeError("it failed"), FULL), True),
        (ExceptionGroup("several", [ValueError("a"), raised(KeyError("b"), FULL)]), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("it failed"), False),
        (FileNotFoundError(errno.ENOENT, "No such file", "/mnt/x"), False),
        (PermissionError(errno.EPERM, "Operation not permitted"), False),
        # What a user can act on stands, unless the disk is behind it and not named.
        (raised(DataError("the rows do not balance", "check them")), False),
        (raised(DataError("cannot write /mnt/x", "make room on its disk"), FULL), False),
        (raised(EvergreenError("MLflow cannot be used", "is it up?"), FULL), True),
    ],
    ids=str,
)
def test_which_errors_are_about_a_disk(error: BaseException, found: bool, tmp_path: Path) -> None:
    problem = disk_error(error, tmp_path)
    assert (problem is not None) is found
    if problem is not None:
        assert "\n" not in str(problem)


def test_an_error_that_says_nothing_of_the_disk_that_caused_it(disk: Disk) -> None:
    error = RuntimeError("Server error '500 Internal Server Error'")
    assert disk_error(error, disk.path) is None
    assert unwritable(disk.path) is None
    disk.fill(room=100_000)
    problem = disk_error(error, disk.path)
    assert problem is not None
    assert "0.1 MB free" in problem.problem


def test_a_file_is_replaced_whole_or_not_at_all(disk: Disk) -> None:
    file = disk.path / "a.json"
    write_whole(file, "old")
    disk.fill(room=0)
    with pytest.raises(OSError, match="No space left"):
        write_whole(file, "new" * 100_000)
    assert [path.name for path in disk.path.iterdir()] == ["a.json"]
    assert file.read_text() == "old"
    disk.make_room()
    write_whole(file, "new" * 100_000)
    assert file.read_text() == "new" * 100_000


# -- training ------------------------------------------------------------------------

SETTINGS = TrainSettings(
    max_length=96, max_steps=24, epochs=9, learning_rate=2e-3, lora_rank=4, processes=1,
    validation_share=0.3, validations=2, checkpoint_steps=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The loss of every step on a disk that has room."""
    losses: dict[int, float] = {}
    train(job(tmp_path_factory.mktemp("roomy"), tiny_model, SETTINGS), SETTINGS, noting(losses))
    return losses


def noting(losses: dict[int, float]) -> Callable[[Event], None]:
    def note(event: Event) -> None:
        if isinstance(event, StepMetrics):
            losses[event.step] = event.loss

    return note


def is_step(number: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StepMetrics) and event.step == number


def says(text: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Phase) and event.text == text


# When the disk fills up, how much room is left then, and the checkpoint that was written before.
MOMENTS: dict[str, tuple[Callable[[Event], bool], int, int | None]] = {
    "at the first line of the log": (says("starting the processes"), 0, None),
    "amid the log": (says("starting the processes"), 4096, None),
    "before the first checkpoint": (is_step(4), 0, None),
    "amid a checkpoint": (is_step(9), 50_000, 5),
    "at the first adapter": (says("saving the adapter of step 12"), 0, 10),
    "amid the last adapter": (says("saving the adapter of step 24"), 30_000, 20),
    "at the metrics": (says("saving the adapter"), 0, 20),
}


def half_written(folder: Path) -> list[str]:
    """Files and folders that a reader could take for whole and that are not."""
    found = [str(path) for path in folder.rglob(".partial-*")]
    kept = folder / CHECKPOINTS
    if kept.exists():
        found += [
            path.name
            for path in kept.iterdir()
            if path not in {whole for whole, _ in checkpoints.whole(kept)}
        ]
    for file in folder.glob("*.json"):
        json.loads(file.read_text(encoding="utf-8"))
    if (folder / ADAPTER).exists() != (folder / METRICS).exists():
        found.append(ADAPTER)
    return found


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_disk_that_fills_up_in_training(
    moment: str, disk: Disk, undisturbed: dict[int, float], tiny_model: Path, tmp_path: Path
) -> None:
    spec = job(tmp_path / "job", tiny_model, SETTINGS)
    spec = spec.model_copy(update={"output": str(disk.path / "run")})
    comes, room, written = MOMENTS[moment]
    losses: dict[int, float] = {}
    note = noting(losses)

    def follow(event: Event) -> None:
        note(event)
        if comes(event):
            disk.fill(room)

    with pytest.raises(EvergreenError) as caught:
        train(spec, SETTINGS, follow)
    assert "disk is full" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert half_written(spec.output_path) == []
    assert not (spec.output_path / METRICS).exists()

    disk.make_room()
    trained = train(spec, SETTINGS, note)
    assert trained.metrics.resumed_from == (() if written is None else (written,))
    assert losses == pytest.approx(undisturbed, rel=1e-5)
    assert half_written(spec.output_path) == []


def test_a_disk_that_is_full_from_the_beginning(
    disk: Disk, tiny_model: Path, tmp_path: Path
) -> None:
    spec = job(tmp_path / "job", tiny_model, SETTINGS)
    spec = spec.model_copy(update={"output": str(disk.path / "run")})
    (disk.path / "of-somebody-else").write_bytes(bytes(4096))
    disk.fill()
    with pytest.raises(DiskError, match="disk is full"), disk_errors(disk.path):
        train(spec, SETTINGS)
    assert half_written(disk.path) == []


def test_a_checkpoint_that_finds_no_room_costs_the_checkpoint_only(
    disk: Disk, undisturbed: dict[int, float], tiny_model: Path, tmp_path: Path
) -> None:
    spec = job(tmp_path / "job", tiny_model, SETTINGS)
    spec = spec.model_copy(update={"output": str(disk.path / "run")})
    said: list[str] = []
    losses: dict[int, float] = {}
    note = noting(losses)

    def follow(event: Event) -> None:
        note(event)
        if isinstance(event, Phase):
            said.append(event.text)
        if is_step(4)(event):
            disk.fill(8192)
        if is_step(6)(event):
            disk.make_room()

    trained = train(spec, SETTINGS, follow)
    assert trained.metrics.resumed_from == ()
    assert any("without a checkpoint of step 5: the disk is full" in text for text in said)
    assert losses == pytest.approx(undisturbed, rel=1e-5)
    assert (spec.output_path / LOG).exists()


# -- the command line ----------------------------------------------------------------


def every_command() -> Iterator[list[str]]:
    """What each command of the command line is called with at least."""

    def walk(command: Any, path: list[str]) -> Iterator[list[str]]:
        if hasattr(command, "commands"):
            for name, below in command.commands.items():
                yield from walk(below, [*path, name])
            return
        asked = list(path)
        for one in command.params:
            if one.required:
                asked += ["1"] if one.param_type_name == "argument" else [one.opts[0], "1"]
        yield asked

    return walk(typer.main.get_command(app), [])


def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    monkeypatch.setattr("sys.argv", ["evergreen", *arguments])
    code = run()
    out, err = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, code, out, err)


@pytest.mark.parametrize("made", [True, False], ids=["a home", "no home yet"])
@pytest.mark.parametrize("arguments", every_command(), ids=" ".join)
def test_every_command_says_in_one_line_that_the_home_is_read_only(
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    *,
    made: bool,
) -> None:
    home = disk.path / "home"
    if made:
        Workspace(home=home).create()
    monkeypatch.setenv("EVERGREEN_HOME", str(home))
    disk.make_read_only()
    done = called(monkeypatch, capsys, *arguments)
    if arguments[0] in WITHOUT_HOME or (arguments[0] in READ_ONLY and not made):
        assert "Traceback" not in done.stdout + done.stderr
        assert done.returncode == 1 or arguments[0] != "doctor", "it finds the home well"
        return
    assert_one_line_error(done, "read-only", str(disk.path))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_help_needs_no_home(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(disk.path / "home"))
    disk.make_read_only()
    for arguments in ([], ["--help"], ["--version"], ["models", "--help"], ["drift", "--help"]):
        assert called(monkeypatch, capsys, *arguments).returncode in (0, 2)


def test_a_home_that_belongs_to_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a user of no privileges sees it: the tests may run as root, whom nothing stops."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    done = called(monkeypatch, capsys, "status")
    assert_one_line_error(done, "may not be written", "EVERGREEN_HOME")


# -- a retrain -----------------------------------------------------------------------

# The disk fills up when this line shows up.
LINES = (
    "Task run 'ingest' - Finished",
    "Task run 'scrub' - Finished",
    "train: starting DeepSpeed",
    "Task run 'train' - Finished",
    "Task run 'evaluate base' - Finished",
)


def retrained(settings: Path, disk: Disk, line: str | None) -> tuple[int, list[str]]:
    """The exit code and the log of a retrain during which the disk fills up at a line."""
    process = subprocess.Popen(
        command("retrain", "--config", settings),
        env=environment(disk.path, PREFECT_API_URL=""),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = []
    assert process.stderr is not None
    for logged in process.stderr:
        log.append(logged)
        if line is not None and line in logged:
            disk.fill()
    return process.wait(), log


def test_a_disk_that_fills_up_amid_a_retrain(disk: Disk, tiny_model: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(60))
    train = {**TINY["train"], "processes": 1, "max_steps": 20}
    settings = tiny_settings(tmp_path, tiny_model, data={"sources": [str(data)]}, train=train)
    for line in LINES:
        code, log = retrained(settings, disk, line)
        said = "".join(log)
        assert any(line in logged for logged in log), said[-3000:]
        assert code == 1, said[-3000:]
        assert "Traceback" not in said
        errors = [logged for logged in log if logged.startswith("error: ")]
        assert len(errors) == 1, said[-3000:]
        assert "disk" in errors[0]
        assert len(log) < 60, said
        assert not list((disk.path / "snapshots").glob(".partial-*"))
        disk.make_room()
    code, log = retrained(settings, disk, None)
    assert code == 0, "".join(log)[-3000:]
    versions = json.loads(evergreen("models", "list", "--json", home=disk.path).stdout)
    assert [(one["version"], one["aliases"]) for one in versions] == [("1", ["champion"])]
