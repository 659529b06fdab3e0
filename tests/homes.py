"""Homes to try things on: one that Evergreen 0.1.0 made, and where a process looks for files."""

import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from data_contracts.workspace import Workspace
from tests.commands import command, environment

FIXTURES = Path(__file__).parent / "fixtures"
# Where the home in the fixture was made; nothing is there on the machines of others.
MADE_AT = Path("/srv/evergreen/home")


def unpack(folder: Path) -> Path:
    """A home of Evergreen 0.1.0 with all that it was made with, in a new folder.

    `fixtures/make_home.py` made it: two promotions, two windows of traffic that drifted, a retrain
    request, a regression set.
    """
    folder.mkdir(parents=True)
    with tarfile.open(FIXTURES / "home-0.1.0.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def home_of_0_1_0(folder: Path) -> Workspace:
    return Workspace(home=unpack(folder) / "home")


def in_folder(
    folder: Path, *arguments: str | Path, home: Path | None = None, **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command where a fixture's settings and model are, on its home."""
    return subprocess.run(
        [*command(*arguments), "--config", "evergreen.yaml"],
        env=environment(home or folder / "home", PYTHONPATH=str(Path.cwd()), **env),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def modes(home: Path) -> dict[str, str]:
    """{path: mode} of what others than the owner may use."""
    found: dict[str, str] = {}
    for path in (home, *home.rglob("*")):
        mode = path.lstat().st_mode & 0o777
        if mode & 0o077 and not path.is_symlink():
            found[str(path)] = oct(mode)
    return found


def touched(trace: Path, place: Path) -> list[str]:
    """Lines of an strace log in which a call names `place` or something in it, found or not."""
    named = re.compile(rf'"{re.escape(str(place))}(?=["/])')
    return [line for line in trace.read_text(errors="replace").splitlines() if named.search(line)]


def rows(database: Path, query: str) -> list[Any]:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()
