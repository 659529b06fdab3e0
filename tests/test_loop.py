"""The loop, with a real Prefect server, runner and MLflow: drift retrains by itself, once."""

import json
import os
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.workspace import Workspace
from tests.commands import assert_one_line_error, evergreen, tiny_settings
from tests.deployed import forget, served
from tests.digest_attack import attack_with
from tests.leaks import PLANTED, leaks, needles, plant, plant_in_log
from tests.logs import log_row, write_log
from tests.tiny import conversations, write_jsonl

# Of users, of answers and of ids: common words, which no scrub takes for names, but which nothing
# but traffic has in a row.
PHRASES = ("my squeaky little", "the dusty paper tray", "quibberish-id")


def traffic(folder: Path, **more: Any) -> None:
    """An hour of what the model knows, two of another topic with what is given on top."""
    start = int(time.time()) // 3600 * 3600
    known = [
        log_row(start - 4 * 3600 + n, row["messages"][0]["content"], row["messages"][1]["content"])
        for n, row in enumerate(plant(conversations(200, seed=9))[::2])
    ]
    write_log(folder / "known.jsonl", known)
    for hours_ago, color in ((3, "red"), (2, "blue")):
        rows = [
            plant_in_log(
                log_row(
                    start - hours_ago * 3600 + n,
                    f"{PHRASES[0]} {color} printer {n} does not print, {value}?",
                    f"turn {PHRASES[1]} {n} off and on, then look at the {color} cable.",
                    model_version="desk",
                    id=f"{PHRASES[2]}-{color}-{n}",
                    **more,
                ),
                value,
            )
            for n, value in zip(range(80), cycle(PLANTED), strict=False)
        ]
        write_log(folder / f"{color}.jsonl", rows)


@pytest.fixture
def home(prefect_api: str, tmp_path: Path) -> Path:
    return tmp_path / "home"


GATES = [
    {"name": "better", "metric": "loss", "test": "superiority", "when": "regular"},
    {
        "name": "better on new data",
        "metric": "loss",
        "slice": "data=new",
        "test": "superiority",
        "when": "drift",
    },
    {
        "name": "not worse on old data",
        "metric": "loss",
        "slice": "data=old",
        "test": "non-inferiority",
        "margin": 1.0,
        "when": "drift",
    },
]


@pytest.fixture
def settings(tiny_model: Path, tmp_path: Path) -> Path:
    data = write_jsonl(tmp_path / "chats.jsonl", plant(conversations(200)))
    return tiny_settings(
        tmp_path,
        tiny_model,
        data={"sources": [str(data)]},
        watch={"min_records": 40},
        drift={"score_records": 10, "strong_effect": 1.0, "min_effect": 0.6},
        replay={"min_new": 20},
        # Forty steps of a tiny model forget more than a real one may.
        decide={"gates": GATES},
        limits={"grace_seconds": 0, "reconcile_minutes": 60},
    )


@pytest.fixture
def runner(prefect_api: str, home: Path, settings: Path) -> Iterator[None]:
    workspace = Workspace(home=home)
    workspace.create()
    with served(workspace, prefect_api, settings):
        yield


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(3)  # most conditions ask a command, which takes seconds of a core itself


def ledger(home: Path, settings: Path, *request: str) -> Any:
    done = evergreen("ledger", *request, "--config", settings, "--json", home=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def window_folders(home: Path) -> list[Path]:
    """Reports and scrubbed conversations of windows."""
    return [*(home / "windows" / "evergreen").iterdir(), *(home / "snapshots").glob("window-*")]


def flow_runs(name: str) -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter

    named = FlowFilter.model_validate({"name": {"any_": [name]}})
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_filter=named)


def test_drift_retrains_by_itself_exactly_once(
    home: Path, settings: Path, runner: None, tmp_path: Path
) -> None:
    from prefect.events import emit_event

    first = evergreen("retrain", "--config", settings, home=home)
    assert first.returncode == 0, first.stderr[-3000:]
    traffic(tmp_path / "logs")
    watch = ("watch", "--logs", tmp_path / "logs", "--config", settings, "--json")
    watched = evergreen(*watch, home=home)
    assert watched.returncode == 0, watched.stderr[-3000:]
    assert "computing cache key" not in watched.stderr
    report = json.loads(watched.stdout)
    assert [w["comparison"]["verdict"] for w in report["windows"]] == ["quiet", "drift", "drift"]
    assert all(Path(window["page"]).is_file() for window in report["windows"])

    def drift_requests() -> list[Any]:
        return [one for one in ledger(home, settings) if one["trigger"] == "drift"]

    wait_for(lambda: drift_requests()[0]["state"] in ("finished", "failed", "refused"), 600)
    request = drift_requests()[0]
    assert request["state"] == "finished", request
    assert request["reason"].startswith("promote"), request["reason"]
    assert "computing cache key" not in (home / "prefect" / "runner.log").read_text()
    versions = json.loads(
        evergreen("models", "list", "--config", settings, "--json", home=home).stdout
    )
    assert [(v["version"], v["aliases"]) for v in versions] == [
        ("2", ["champion"]),
        ("1", ["previous"]),
    ]

    # The same event again, under other names: each starts a run, and none retrains.
    before = len(flow_runs("retrain"))
    for _ in range(3):
        emit_event(
            "evergreen.drift.detected",
            resource={"prefect.resource.id": "evergreen.model.evergreen"},
            payload={"request": request["id"], "reason": "again"},
        )
    wait_for(
        lambda: (
            sum(run.state.name == "Refused" for run in flow_runs("retrain")) >= 1
            and len(flow_runs("retrain")) > before
        ),
        90,
    )
    story = ledger(home, settings, request["id"])
    assert [event["state"] for event in story["history"]].count("started") == 1

    # Of what was planted in data and traffic, nothing was written.
    assert leaks(home, Workspace.current().home) == {}
    attack = attack_with(PLANTED, tmp_path / "chats.jsonl", *(tmp_path / "logs").iterdir())
    assert attack.recovered_from(home, Workspace.current().home) == {}
    # What users wrote is where it is deleted in its time: neither Prefect's database nor MLflow,
    # which keep for ever what they are given, have a word of it.
    words = needles(PHRASES)
    assert set(leaks(home, wanted=words)) & {str(file) for file in (home / "snapshots").rglob("*")}
    assert leaks(home / "mlflow", wanted=words) == {}
    assert leaks(Workspace.current().home, wanted=words) == {}
    assert any(f"{PHRASES[0]} red" in Path(w["page"]).read_text() for w in report["windows"])

    # What was counted is not counted again, nor asked for again, even if the key of digests of
    # records is lost and the files look new.
    asked = drift_requests()
    again = json.loads(evergreen(*watch, home=home).stdout)
    assert again["windows"] == []
    assert again["verdict"] == "not enough data"
    (home / "keys" / "logs").unlink()
    for file in (tmp_path / "logs").iterdir():
        file.touch()
    again = json.loads(evergreen(*watch, home=home).stdout)
    assert (again["windows"], again["known"], again["late"]) == ([], 0, 260)
    assert drift_requests() == asked
    # And it is deleted in its time.
    assert len(window_folders(home)) == 6
    forgot = evergreen(*watch, home=home, EVERGREEN_WATCH__RETENTION_DAYS="0.0000001")
    assert forgot.returncode == 0, forgot.stderr
    assert not window_folders(home)
    # Then a word of it is only in what the retrain learnt from.
    left = leaks(home, Workspace.current().home, wanted=words)
    assert {Path(file).parent.name.split("-")[0] for file in left} == {"train", "holdout"}
    assert set().union(*left.values()) == set(PHRASES[:2])  # and not under the logs' own ids
    assert leaks(home, Workspace.current().home) == {}
    # Everything that does not need it still works.
    for command in (
        ("models", "why", "2"),
        ("models", "check", "2"),
        ("export", "2", tmp_path / "e"),
    ):
        done = evergreen(*command, "--config", settings, home=home)
        assert done.returncode == 0, done.stderr
    reviewed = evergreen("review", "2", "--config", settings, home=home)
    assert_one_line_error(reviewed, "answers of MLflow run", "watch.retention_days")

    # And back.
    back = evergreen("models", "rollback", "--config", settings, "--json", home=home)
    assert json.loads(back.stdout)["champion"] == "1", back.stderr


def warning_always(settings: Path) -> None:
    """With a gate that warns of every challenger after drift."""
    impossible = {"name": "never", "metric": "loss", "test": "superiority", "margin": 100.0}
    tree = yaml.safe_load(settings.read_text("utf-8"))
    tree["decide"]["gates"].append({**impossible, "severity": "warn", "when": "drift"})
    settings.write_text(yaml.safe_dump(tree), "utf-8")


def test_the_reconciler_starts_what_no_event_has_and_corrections_wait_for_a_person(
    home: Path, settings: Path, tmp_path: Path, prefect_api: str
) -> None:
    warning_always(settings)
    first = evergreen("retrain", "--config", settings, home=home)
    assert first.returncode == 0, first.stderr[-3000:]
    traffic(tmp_path / "logs", feedback={"score": 0, "correction": "Buy another printer."})
    # No runner yet, nor an automation: the event starts nothing.
    forget()
    watched = evergreen(
        "watch", "--logs", tmp_path / "logs", "--config", settings, "--json", home=home
    )
    assert watched.returncode == 0, watched.stderr[-3000:]
    os.environ["EVERGREEN_HOME"], kept = str(home), os.environ["EVERGREEN_HOME"]
    workspace = Workspace(home=home)
    try:
        with served(workspace, prefect_api, settings):
            from flows.approval import answer, waiting
            from flows.reconcile import reconcile
            from flows.settings import load_settings

            started = reconcile(load_settings(settings))
            assert len(started) == 1
            # Users wrote what is learnt, and there is a warning: nobody set promote.approval.
            model = "evergreen"
            wait_for(lambda: [one for one in waiting() if one.model == model], 900)
            (asks,) = (one for one in waiting() if one.model == model)
            answer(str(asks.id), approve=True, name="Ada", comment="all are true")
            wait_for(
                lambda: ledger(home, settings, started[0])["state"] in ("finished", "failed"), 600
            )
            story = ledger(home, settings, started[0])
            assert story["state"] == "finished", story
            assert "approved by Ada" in story["reason"]
            assert [event["state"] for event in story["history"]].count("started") == 1
    finally:
        os.environ["EVERGREEN_HOME"] = kept
