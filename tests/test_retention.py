"""Text of traffic is deleted in its time, wherever it is, and nothing else is."""

import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.records import Message, Record, Served
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from tasks.evaluate.cache import EVALUATIONS, ItemCache, forget_items
from tasks.ledger import episodes, leases, requests
from tasks.ledger.database import Ledger, LedgerSettings, windows
from tasks.ledger.episodes import EpisodeSettings, JudgedWindow
from tasks.ledger.requests import Claim, LimitSettings, Refusal
from tasks.replay import ReplaySettings, replay
from tasks.retention import delete_expired_text, delete_expired_windows, is_replayed

MODEL = "evergreen"
DAY = 86_400.0
LIMITS = LimitSettings(cooldown_minutes=0, grace_seconds=0)


def record(number: int, source: str, said: str = "words") -> Record:
    messages = (
        Message(role="user", content=f"{said} {number}"),
        Message(role="assistant", content="x"),
    )
    return Record(id=str(number), messages=messages, source=source, served=Served())


def snapshot(workspace: Workspace, stage: str, source: str, said: str = "words") -> Snapshot:
    records = [record(number, source, said) for number in range(3)]
    return write_records(str(workspace.snapshots), stage, records, parent=None, provenance={})


def file(path: Path, content: str = "words") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def age(path: Path, days: float) -> None:
    """As if it, and all in it, was written so long ago."""
    for one in (*path.rglob("*"), path):
        os.utime(one, (time.time() - DAY * days,) * 2)


# -- what is not a window ------------------------------------------------------------


def everything(workspace: Workspace) -> dict[str, Path]:
    """{what: a file or folder of it} of a home that retrained after drift."""
    replayed = replay(
        [snapshot(workspace, "train", "chats.jsonl", "old")],
        [snapshot(workspace, "window", "window-1", "new")],
        MODEL,
        ReplaySettings(min_new=1),
        workspace,
    )
    name = Path(replayed.new.path).name
    source = f"{name}/part-00000.parquet"
    shards = workspace.cache / "scrub"
    shards.mkdir(parents=True)
    for shard, made_of in (("of-replayed", source), ("of-sources", "chats.jsonl")):
        pq.write_table(pa.table({"id": ["1"], "source": [made_of]}), shards / f"{shard}.parquet")
    runs, home = workspace.runs, workspace.home
    return {
        "replayed new": Path(replayed.new.path),
        "replayed old": Path(replayed.old.path),
        "scrubbed replayed": Path(snapshot(workspace, "scrub", source).path),
        "validated replayed": Path(snapshot(workspace, "validate", source).path),
        "shard of replayed": shards / "of-replayed.parquet",
        "samples": file(runs / "abc" / "samples.json"),
        "page": file(runs / "abc" / "verdict.html"),
        "sheet": file(home / "reviews" / "s1" / "review.html"),
        "table": file(home / "reviews" / "s1" / "review.csv"),
        "reference": file(workspace.windows / "reference-01.parquet"),
        "stored evaluation": file(workspace.prefect / "storage" / "evaluate-0123-0"),
        # These stay.
        "learnt": Path(snapshot(workspace, "train", source).path),
        "held out": Path(snapshot(workspace, "holdout", source).path),
        "planted": Path(snapshot(workspace, "planted", source).path),
        "regression": Path(snapshot(workspace, "regression", source).path),
        "scrubbed source": Path(snapshot(workspace, "scrub", "chats.jsonl").path),
        "validated source": Path(snapshot(workspace, "validate", "chats.jsonl").path),
        "shard of source": shards / "of-sources.parquet",
        "spec": file(runs / "train-1" / "spec.json"),
        "key of the sheet": file(home / "reviews" / "s1" / "key.json"),
        "stored scrub": file(workspace.prefect / "storage" / "scrub-0123-0"),
        "Prefect's database": file(workspace.prefect / "prefect.db"),
        "MLflow's verdict": file(workspace.mlflow / "artifacts" / "verdict.html"),
    }


STAY = (
    "learnt", "held out", "planted", "regression", "scrubbed source", "validated source",
    "shard of source", "spec", "key of the sheet", "stored scrub", "Prefect's database",
    "MLflow's verdict",
)  # fmt: skip


def test_what_is_old_goes_and_what_was_learnt_from_stays(workspace: Workspace) -> None:
    made = everything(workspace)
    age(workspace.home, 40)
    assert delete_expired_text(workspace, days=30) == []
    assert {what for what, path in made.items() if path.exists()} == set(STAY)


def test_what_is_young_stays(workspace: Workspace) -> None:
    made = everything(workspace)
    age(workspace.home, 20)
    assert delete_expired_text(workspace, days=30) == []
    assert all(path.exists() for path in made.values())


def test_an_empty_home_is_no_trouble(workspace: Workspace) -> None:
    assert delete_expired_text(workspace, days=30) == []
    assert not (workspace.cache / EVALUATIONS).exists()


def test_damaged_and_foreign_files_are_no_trouble(workspace: Workspace) -> None:
    for name in ("cache/scrub/damaged.parquet", "snapshots/scrub-damaged/part-00000.parquet"):
        file(workspace.home / name, "not Parquet")
    other = workspace.cache / "scrub" / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    (workspace.snapshots / "validate-empty").mkdir()
    age(workspace.home, 40)
    assert delete_expired_text(workspace, days=30) == []
    assert other.exists()
    assert not is_replayed(workspace.snapshots / "validate-empty")


def test_what_cannot_be_deleted_is_said_and_the_rest_deleted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = everything(workspace)
    age(workspace.home, 40)
    remove = shutil.rmtree

    def refuses(path: Path, *more: Any) -> None:
        if path == made["replayed new"]:
            raise PermissionError(13, "Permission denied")
        remove(path, *more)

    monkeypatch.setattr(shutil, "rmtree", refuses)
    problems = delete_expired_text(workspace, days=30)
    assert problems == [f"{made['replayed new']}: Permission denied"]
    assert {what for what, path in made.items() if path.exists()} == {*STAY, "replayed new"}


def test_answers_are_overwritten_not_just_forgotten(workspace: Workspace) -> None:
    database = workspace.cache / EVALUATIONS
    cache = ItemCache(database, "model", "code")
    said = "the flemmish twiddlecork, " * 200
    assert cache.fill("answer", [("1", "q")], lambda _: [said]) == [said]
    assert b"twiddlecork" in database.read_bytes()
    forget_items(database, oldest=time.time() - DAY)
    assert cache.fill("answer", [("1", "q")], lambda _: ["another"]) == [said]
    forget_items(database, oldest=time.time() + 1)
    assert b"twiddlecork" not in database.read_bytes()
    assert cache.fill("answer", [("1", "q")], lambda _: ["another"]) == ["another"]


def test_answers_of_an_earlier_release_are_of_unknown_age(workspace: Workspace) -> None:
    database = file(workspace.cache / EVALUATIONS, "")
    with sqlite3.connect(database) as old:
        old.execute("CREATE TABLE items (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        old.execute("INSERT INTO items VALUES ('1', ?)", ("twiddlecork " * 500,))
    old.close()
    forget_items(database, oldest=0)
    assert b"twiddlecork" not in database.read_bytes()
    cache = ItemCache(database, "model", "code")
    assert cache.fill("answer", [("1", "q")], lambda _: ["said"]) == ["said"]


# -- windows -------------------------------------------------------------------------


@pytest.fixture
def ledger(workspace: Workspace) -> Ledger:
    return Ledger(LedgerSettings(), workspace)


def judged(ledger: Ledger, workspace: Workspace, number: int = 1) -> JudgedWindow:
    """A window that drifted strongly, 40 days ago: it asks for a retrain."""
    kept = snapshot(workspace, "window", f"window-{number}", f"said {number}")
    report = file(workspace.windows / MODEL / str(number) / "report.html")
    window = JudgedWindow(
        id=str(number), model=MODEL, champion="1", start=0, end=1, verdict="drift", strong=True,
        snapshot=kept.model_dump_json(), features=str(report), report=str(report),
    )  # fmt: skip
    digest = number.to_bytes(16, "big")
    counted = episodes.CountedRecords([(digest, 0)], key="any", forget_before=0)
    episodes.count_window(ledger, window, counted, EpisodeSettings(), reason="drift")
    with ledger.transaction(MODEL) as connection:
        then = episodes.now() - episodes.timedelta(days=40)
        connection.execute(windows.update().values(judged_at=then))
    return window


def claimed(ledger: Ledger, limits: LimitSettings = LIMITS) -> Claim | Refusal:
    (request,) = requests.listing(ledger, MODEL)
    return requests.claim(
        ledger, request.id, flow_run="r", champion="1", champion_request="", limits=limits
    )


def exists(window: JudgedWindow) -> tuple[bool, bool]:
    return Path(window.report).exists(), Path(window.data.path).exists()


def test_a_window_whose_retrain_waits_stays(ledger: Ledger, workspace: Workspace) -> None:
    window = judged(ledger, workspace)
    assert delete_expired_windows(ledger, workspace, MODEL, days=30) == []
    assert exists(window) == (True, True)
    claim = claimed(ledger)
    assert isinstance(claim, Claim)
    assert delete_expired_windows(ledger, workspace, MODEL, days=30) == []
    assert exists(window) == (True, True)
    requests.finish(ledger, claim, "promote", devices=1)
    assert delete_expired_windows(ledger, workspace, MODEL, days=50) == []
    assert exists(window) == (True, True)
    assert delete_expired_windows(ledger, workspace, MODEL, days=30) == []
    assert exists(window) == (False, False)
    assert episodes.judged(ledger, MODEL, "1") == []


def test_a_window_whose_retrain_was_refused_for_now_stays(
    ledger: Ledger, workspace: Workspace
) -> None:
    window = judged(ledger, workspace)
    assert isinstance(claimed(ledger, LIMITS.model_copy(update={"max_per_day": 0})), Refusal)
    delete_expired_windows(ledger, workspace, MODEL, days=30)
    assert exists(window) == (True, True)


def test_a_window_whose_retrain_was_refused_for_good_goes(
    ledger: Ledger, workspace: Workspace
) -> None:
    window = judged(ledger, workspace)
    (request,) = requests.listing(ledger, MODEL)
    refusal = requests.claim(
        ledger, request.id, flow_run="r", champion="2", champion_request="", limits=LIMITS
    )
    assert isinstance(refusal, Refusal)
    assert "has become champion since" in refusal.reason
    delete_expired_windows(ledger, workspace, MODEL, days=30)
    assert exists(window) == (False, False)


def test_what_a_killed_watch_left_goes_and_what_is_judged_stays(
    ledger: Ledger, workspace: Workspace
) -> None:
    window = judged(ledger, workspace)  # its retrain waits
    left = Path(snapshot(workspace, "window", "window-9", "left").path)
    report = file(workspace.windows / MODEL / "9" / "features.parquet")
    other = file(workspace.windows / "another-model" / "8" / "features.parquet")
    age(workspace.home, 40)
    young = Path(snapshot(workspace, "window", "window-10", "young").path)
    assert delete_expired_windows(ledger, workspace, MODEL, days=30) == []
    assert exists(window) == (True, True)
    assert young.exists()
    assert not any(path.exists() for path in (left, report.parent, other.parent))


# -- the flow ------------------------------------------------------------------------


def test_while_a_retrain_runs_only_windows_go(
    prefect_api: str, workspace: Workspace, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.retention import retention
    from flows.settings import Settings

    monkeypatch.setenv("EVERGREEN_HOME", str(workspace.home))
    made = everything(workspace)
    age(workspace.home, 40)
    with ledger.transaction(MODEL) as connection:
        leases.take(connection, MODEL, "token", "a retrain")
    retention(Settings())
    assert all(path.exists() for path in made.values())
    with ledger.transaction(MODEL) as connection:
        leases.release(connection, MODEL, "token")
    retention(Settings())
    assert {what for what, path in made.items() if path.exists()} == set(STAY)
