"""What is installed is what was locked: exact versions with hashes, on every supported platform."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
# Its builds differ by platform, and bring what they need of it.
UNLOCKED = {"torch"}


def locked(name: str) -> dict[str, tuple[Requirement, int]]:
    """{package: (requirement, number of hashes)} of a lock."""
    text = (ROOT / "infra/locks" / f"{name}.txt").read_text("utf-8")
    entries = [entry.replace("\\\n", " ") for entry in re.split(r"\n(?=\S)", text.strip())]
    found = {}
    for entry in entries:
        requirement = Requirement(entry.split("--hash=")[0].strip())
        found[canonicalize_name(requirement.name)] = (requirement, entry.count("--hash=sha256:"))
    return found


@pytest.mark.parametrize("name", ["build", "runtime", "dev"])
def test_every_line_is_one_version_with_hashes(name: str) -> None:
    for package, (requirement, hashes) in locked(name).items():
        assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), package
        assert hashes >= 1, package


@pytest.mark.parametrize(("name", "extras"), [("runtime", ["server"]), ("dev", ["server", "dev"])])
def test_a_lock_has_all_that_the_project_asks_for(name: str, extras: list[str]) -> None:
    lock = locked(name)
    project = PYPROJECT["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    for text in wanted:
        requirement = Requirement(text)
        package = canonicalize_name(requirement.name)
        if package in UNLOCKED or package == canonicalize_name(project["name"]):
            continue
        assert package in lock, package
        version = str(lock[package][0].specifier).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), package


def test_runtime_and_dev_agree() -> None:
    dev = locked("dev")
    for package, (requirement, _) in locked("runtime").items():
        assert dev[package][0].specifier == requirement.specifier, package


def test_what_is_installed_here_is_what_is_locked() -> None:
    differing = {}
    for package, (requirement, _) in locked("dev").items():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        installed = metadata.version(package)
        if installed not in SpecifierSet(str(requirement.specifier)):
            differing[package] = (installed, str(requirement.specifier))
    assert differing == {}


def test_nothing_unlocked_is_installed_by_make_or_into_the_image() -> None:
    for name in ("Makefile", "infra/Dockerfile"):
        text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
        for step in re.findall(r"pip install (.+?)(?:&&|$)", text, re.MULTILINE):
            arguments = step.replace("--quiet ", "").strip()
            is_locked = arguments.startswith("--require-hashes ")
            is_ours = arguments == "--no-deps --no-build-isolation --editable ."
            assert is_locked or is_ours or arguments == "torch==2.13.0", step
    assert "apt-get" not in (ROOT / "infra/Dockerfile").read_text("utf-8")


def test_an_audit_without_its_database_says_that_nothing_was_audited(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"zipp==4.1.2 --hash=sha256:{'0' * 64}\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci/audit.py"), str(lock)],
        env={"PATH": "", "HTTPS_PROXY": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be reached" in done.stdout
