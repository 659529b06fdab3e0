"""Stored results know the code that decided them: a change there makes them anew."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from data_contracts import code_version as subject
from data_contracts.code_version import library_versions, project_folder, reached_code
from tasks.evaluate.sets import general_task
from tasks.evaluate.stage import evaluate_task
from tasks.replay import replay_task
from tasks.scrub.detector import _train as train_detector
from tasks.scrub.stage import scrub_task
from tasks.split import split_task
from tasks.train import train_task
from tasks.validate import validate_task
from tasks.watch import reference_task

STAGES = {
    "replay": replay_task.fn,
    "detector": train_detector,
    "scrub": scrub_task.fn,
    "validate": validate_task.fn,
    "split": split_task.fn,
    "train": train_task.fn,
    "general": general_task.fn,
    "evaluate": evaluate_task.fn,
    "reference": reference_task.fn,
}
RECOGNIZERS = sorted(
    file.name
    for file in (project_folder() / "tasks/scrub/recognizers").glob("*.py")
    if "class " in file.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's packages, to be changed."""
    return copy_project(tmp_path_factory.mktemp("project"))


def copy_project(folder: Path) -> Path:
    for package in subject.PROJECT:
        shutil.copytree(
            project_folder() / package,
            folder / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return folder


@pytest.fixture
def project(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What is parsed is the copy."""
    monkeypatch.setattr(subject, "project_folder", lambda: copied)
    forget_sources()
    yield copied
    forget_sources()


def forget_sources() -> None:
    subject.source_of.cache_clear()
    subject.code_version.cache_clear()


@cache
def versions_now() -> dict[str, str]:
    return versions()


def versions() -> dict[str, str]:
    """The code version of each stage, of what is parsed now."""
    forget_sources()
    return {name: subject.code_version(function) for name, function in STAGES.items()}


def changed_by(file: Path, text: str) -> set[str]:
    """The stages that are done again if the file reads so; the file is put back."""
    original = file.read_text(encoding="utf-8")
    assert original != text
    old = versions_now()
    try:
        file.write_text(text, encoding="utf-8")
        new = versions()
    finally:
        file.write_text(original, encoding="utf-8")
    return {name for name in STAGES if new[name] != old[name]}


def with_another_line(file: Path, name: str) -> str:
    """The file's source with one more line in the function or class of this name."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    definitions = (ast.FunctionDef, ast.ClassDef)
    (found,) = [one for one in tree.body if isinstance(one, definitions) and one.name == name]
    found.body[1:1] = ast.parse("changed = 1").body
    return ast.unparse(tree)


@pytest.mark.parametrize("recognizer", RECOGNIZERS)
def test_a_changed_recogniser_is_scrubbed_with_again(project: Path, recognizer: str) -> None:
    file = project / "tasks/scrub/recognizers" / recognizer
    tree = ast.parse(file.read_text(encoding="utf-8"))
    name = next(one.name for one in tree.body if isinstance(one, ast.ClassDef))
    assert changed_by(file, with_another_line(file, name)) == {"scrub", "evaluate"}


@pytest.mark.parametrize(
    ("file", "name", "stages"),
    [
        ("models/train_detector.py", "train", {"detector"}),
        ("tasks/scrub/synthetic/corpus.py", "corpus", {"detector"}),
        ("tasks/evaluate/measures.py", "mean", {"evaluate"}),
        ("tasks/evaluate/privacy.py", "recited", {"evaluate"}),
        ("models/chat.py", "encode", {"train", "evaluate"}),
        ("models/template.py", "load_template", {"train", "general", "evaluate"}),
        ("models/finetune.py", "one_step", {"train"}),
        ("tasks/split.py", "assign", {"split"}),
        ("tasks/drift/features.py", "describe", {"reference"}),
        ("data_contracts/expectations.py", "compile_suites", {"validate"}),
    ],
)
def test_a_changed_function_repeats_the_stages_that_reach_it(
    project: Path, file: str, name: str, stages: set[str]
) -> None:
    changed = with_another_line(project / file, name)
    assert changed_by(project / file, changed) == stages


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("tasks/evaluate/general.yaml", {"general", "evaluate"}),
        ("tasks/evaluate/red_team.yaml", {"general", "evaluate"}),
        ("tasks/scrub/synthetic/templates/en.txt", {"detector", "scrub"}),
    ],
)
def test_data_files_count_where_they_are_read(project: Path, file: str, stages: set[str]) -> None:
    text = (project / file).read_text(encoding="utf-8")
    assert changed_by(project / file, f"{text}\n") == stages


def test_what_only_a_reader_sees_repeats_nothing(project: Path) -> None:
    for name in ("tasks/scrub/recognizers/money.py", "models/chat.py"):
        source = (project / name).read_text(encoding="utf-8")
        _, _, rest = source.partition('"""\n')
        commented = f'"""Another docstring."""\n# Another comment.\n{rest}'
        assert changed_by(project / name, commented) == set()


@pytest.mark.parametrize("file", ["flows/cli/demo.py", "tasks/scrub/report.html.j2", "new.py"])
def test_the_project_has_another_version_with_each_change(project: Path, file: str) -> None:
    before = subject.project_version()
    changed = project / ("infra/new.py" if file == "new.py" else file)
    text = changed.read_text(encoding="utf-8") if changed.exists() else None
    changed.write_text(f"{text or ''}# Changed.\n", encoding="utf-8")
    assert subject.project_version() != before
    changed.unlink() if text is None else changed.write_text(text, encoding="utf-8")
    assert subject.project_version() == before


def test_flows_and_commands_decide_nothing() -> None:
    for name, function in STAGES.items():
        reached = reached_code(function).modules
        assert not {module for module in reached if module.startswith(("flows", "infra"))}, name


def test_versions_of_libraries_count_with_what_they_need() -> None:
    scrub = library_versions(frozenset(reached_code(scrub_task.fn).libraries))
    assert {"presidio-analyzer", "phonenumbers", "spacy", "tokenizers"} <= scrub.keys()
    train = library_versions(frozenset(reached_code(train_task.fn).libraries))
    assert {"torch", "transformers", "tokenizers", "peft", "deepspeed"} <= train.keys()
    assert "prefect" not in scrub.keys() | train.keys()


def test_another_version_of_a_library_is_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    before = subject.code_version(scrub_task.fn)
    real = subject.library_versions

    def upgraded(packages: frozenset[str]) -> dict[str, str]:
        return real(packages) | {"phonenumbers": "99.0"}

    monkeypatch.setattr(subject, "library_versions", upgraded)
    forget_sources()
    assert subject.code_version(scrub_task.fn) != before
    forget_sources()


def test_a_changed_recogniser_finds_its_old_result_no_more(tmp_path: Path) -> None:
    """The real command, in the same home, before and after the change."""
    project = copy_project(tmp_path / "project")
    chats = tmp_path / "chats.jsonl"
    turns = [
        {"role": "user", "content": "My badge is BADGE-4711, who are you?"},
        {"role": "assistant", "content": "Nobody."},
    ]
    chats.write_text(json.dumps({"id": "a", "messages": turns}) + "\n", encoding="utf-8")
    policy = tmp_path / "policy.yaml"
    shipped = yaml.safe_load(
        (project / "data_contracts/scrub_policy.yaml").read_text(encoding="utf-8")
    )
    policy.write_text(yaml.safe_dump(shipped | {"detector": False}), encoding="utf-8")

    def scrubbed(name: str) -> str:
        out = tmp_path / name
        done = subprocess.run(
            [
                *(sys.executable, "-m", "flows.cli", "scrub", str(chats), str(out)),
                *("--policy", str(policy)),
            ],
            env=os.environ | {"PYTHONPATH": str(project), "EVERGREEN_HOME": str(tmp_path / "home")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return out.read_text(encoding="utf-8")

    assert "BADGE-4711" in scrubbed("before.jsonl")
    references = project / "tasks/scrub/recognizers/references.py"
    source = references.read_text(encoding="utf-8")
    assert '"udid",' in source
    references.write_text(source.replace('"udid",', '"udid", "badge",'), encoding="utf-8")
    assert "BADGE-4711" not in scrubbed("after.jsonl")
