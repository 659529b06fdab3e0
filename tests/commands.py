"""Run the command line as a process of its own, as a user does."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

TINY = {
    "train": {
        "max_length": 96,
        "learning_rate": 0.02,
        "batch_size": 8,
        "max_steps": 40,
        "epochs": 5,
        "lora_rank": 8,
    },
    "evaluate": {"max_items": 20, "max_length": 96, "answers": 8, "max_new_tokens": 8},
}


def tiny_settings(folder: Path, model: Path, **more: object) -> Path:
    """A settings file for the tiny model."""
    file = folder / "evergreen.yaml"
    file.write_text(
        yaml.safe_dump({"model": {"base": str(model), "dtype": "float32"}, **TINY, **more}),
        encoding="utf-8",
    )
    return file


def environment(home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "EVERGREEN_HOME": str(home), "COLUMNS": "200", **more}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *map(str, arguments)]


def evergreen(
    *arguments: str | Path, home: Path, timeout: float = 600, **env: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments),
        env=environment(home, **env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def assert_one_line_error(done: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    """Non-zero exit, no traceback, and exactly one line of error that holds every part."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for part in parts:
        assert part in errors[0], errors[0]
