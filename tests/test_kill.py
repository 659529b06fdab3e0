"""kill -9 in every stage: the next run goes on where the last one was, and ends the same."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil

from tests.commands import command, environment, evergreen, tiny_settings
from tests.tiny import conversations, write_jsonl

# Kill when this line shows up: the stage named first is then at work.
MOMENTS = {
    "scrub": "Task run 'ingest' - Finished",
    "validate": "Task run 'scrub' - Finished",
    "split": "Task run 'validate' - Finished",
    "train": "train: starting DeepSpeed",
    "train's end": "train: saving the adapter",
    "evaluate": "Task run 'train' - Finished",
    "promote": "Task run 'slices' - Finished",
}
# These look at the world outside and so are never cached; they do no work twice.
ALWAYS = {"ingest", "detector", "base model", "champion", "promote"}
FINISHED = re.compile(r"Task run '([^']+)' - Finished in state (\w+)")


def run_until(line: str, settings: Path, home: Path) -> str:
    """Start a retrain, kill -9 it when it logs `line`; everything it logged until then."""
    process = subprocess.Popen(
        command("retrain", "--config", settings),
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = []
    assert process.stderr is not None
    for logged in process.stderr:
        log.append(logged)
        if line in logged:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert any(line in logged for logged in log), "".join(log[-30:])
    # What it had started ends with it, the training's ranks too.
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    return "".join(log)


def test_killed_in_each_stage(prefect_api: str, tiny_model: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(60))
    settings = tiny_settings(tmp_path, tiny_model, data={"sources": [str(data)]})
    finished: set[str] = set()
    for moment, line in MOMENTS.items():
        states = dict(FINISHED.findall(run_until(line, settings, home)))
        for stage in finished:
            assert states.get(stage) == "Cached", f"{stage} was done again, killed in {moment}"
        finished |= set(states) - ALWAYS
    assert finished >= {"scrub", "validate", "split", "train", "evaluate base"}

    done = evergreen("retrain", "--config", settings, "--json", home=home)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    for stage in ("scrub", "validate", "split", "train", "evaluate challenger", "evaluate base"):
        assert report["cached"][stage], stage
    assert report["promotion"]["champion"] == "1"

    again = evergreen("retrain", "--config", settings, "--json", home=home)
    assert json.loads(again.stdout)["verdict"]["decision"] == "unchanged"
    versions = json.loads(evergreen("models", "list", "--json", home=home).stdout)
    assert [version["version"] for version in versions] == ["1"]
    statuses = json.loads(evergreen("status", "--json", home=home).stdout)["trainings"]
    assert sorted(run["status"] for run in statuses) == ["FINISHED", "KILLED", "KILLED"]
    assert not list((home / "snapshots").glob(".partial-*"))


def test_two_retrains_of_one_model_never_run_at_once(
    prefect_api: str, tiny_model: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(60))
    settings = tiny_settings(tmp_path, tiny_model, data={"sources": [str(data)]})
    first = subprocess.Popen(
        command("retrain", "--config", settings),
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stderr is not None
        assert any("Task run 'ingest' - Finished" in line for line in first.stderr)
        second = evergreen("retrain", "--config", settings, home=home)
        assert second.returncode == 1
        assert "another retrain of 'evergreen' is running" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        first.kill()
        first.wait()
        time.sleep(0.5)
