"""A home made by a real retrain under the loosest umask: private, and a copy of it stands alone."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.commands import command, environment, evergreen, tiny_settings
from tests.homes import modes, touched
from tests.tiny import conversations, write_jsonl

GATES = [{"name": "better", "metric": "loss", "test": "superiority"}]
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


class Made:
    """A home with two champions, one after the other."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.home = folder / "home"
        data = write_jsonl(folder / "chats.jsonl", conversations(120))
        more: dict[str, Any] = {"data": {"sources": [str(data)]}, "decide": {"gates": GATES}}
        self.settings = tiny_settings(folder, model, **more)
        whole = self.settings.read_text()
        # Compiled layers take minutes where many tests share two cores.
        whole = whole.replace("max_steps: 40", "max_steps: 40\n  compile: false")
        self.settings.write_text(whole.replace("max_steps: 40", "max_steps: 8"))
        self.retrain()
        self.settings.write_text(whole)
        self.report = self.retrain()

    def retrain(self) -> dict[str, Any]:
        done = subprocess.run(
            ["sh", "-c", 'umask 0; exec "$@"', "sh", *command("retrain", "--config", self.settings),
             "--json"],
            env=environment(self.home),
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        report: dict[str, Any] = json.loads(done.stdout)
        return report


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)  # each home has its own server
        return Made(tmp_path_factory.mktemp("made"), tiny_model)


@pytest.fixture(autouse=True)
def own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def copy_of(made: Made, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    subprocess.run(["cp", "-r", made.home, folder / "copy"], check=True)
    return folder / "copy"


def state(home: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(home)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in home.rglob("*")
        if path.is_file()
    }


def test_all_of_a_home_is_its_owners_under_umask_0(made: Made) -> None:
    assert made.report["promotion"]["champion"] == "2"
    assert modes(made.home) == {}


def test_what_evergreen_stores_names_no_place(made: Made) -> None:
    """MLflow's and Prefect's own records do, and are rewritten; reports say what was then."""
    place = str(made.home).encode()
    named = {
        path.relative_to(made.home)
        for path in made.home.rglob("*")
        if path.is_file() and place in path.read_bytes()
    }
    ours = {
        path
        for path in named
        if path.parts[0] not in ("cache", "format.json")
        and path.name not in ("MLmodel", "verdict.html", "report.json", "train.log", "server.log")
        and not path.name.startswith(("mlflow.db", "prefect.db"))
    }
    # Prefect wraps each stored result in a record of where it is.
    assert {path for path in ours if path.parts[:2] != ("prefect", "storage")} == set()
    for path in (made.home / "prefect" / "storage").iterdir():
        assert place not in json.loads(path.read_text())["result"].encode(), path


@needs_strace
def test_a_copy_neither_reads_nor_writes_the_original(made: Made, tmp_path: Path) -> None:
    copy = copy_of(made, tmp_path)
    before = state(made.home)
    results = {}
    for name, arguments in {
        "list": ["models", "list"],
        "check": ["models", "check", "champion"],
        "retrain": ["retrain"],
        "rollback": ["models", "rollback"],
    }.items():
        trace = tmp_path / f"{name}.trace"
        done = subprocess.run(
            ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=%file", "-o", str(trace),
             *command(*arguments, "--config", made.settings, "--json")],
            env=environment(copy),
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert touched(trace, copy) != []  # it is able to see what is there
        assert touched(trace, made.home) == [], name
        results[name] = json.loads(done.stdout)
    assert results["check"]["same"]
    assert results["retrain"]["verdict"]["decision"] == "unchanged"
    assert all(results["retrain"]["cached"].values())
    assert results["rollback"]["champion"] == "1"
    assert state(made.home) == before
    assert modes(copy) == {}


def test_a_copy_works_where_the_original_is_gone(made: Made, tmp_path: Path) -> None:
    copy = copy_of(made, tmp_path)
    aside = made.home.with_name("aside")
    made.home.rename(aside)
    try:
        done = evergreen(
            "models", "check", "champion", "--config", made.settings, "--json", home=copy
        )
    finally:
        aside.rename(made.home)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["same"]
