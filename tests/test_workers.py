"""Texts searched by several processes: poison, death, a cluster, and going on after kill -9."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import torch

from data_contracts.errors import ConfigError, RowRejected
from data_contracts.home_keys import passing_key
from data_contracts.policy import ScrubPolicy, load_policy
from data_contracts.workspace import Workspace
from tasks.ingest import IngestSettings, Source, ingest
from tasks.scrub.detector import BuiltDetector
from tasks.scrub.finder import Finder
from tasks.scrub.stage import Job, ScrubSettings, cleaned
from tasks.scrub.workers import Search, WorkerSettings, searching
from tests.commands import command, environment, evergreen
from tests.tiny import conversations, write_jsonl

TEXTS = [f"write to user{number}@example.com, says Maria Lopez" for number in range(40)]
WORKERS = WorkerSettings(count=2)
QUICK = {"max_seconds": 3.0, "max_message_characters": 10**8}


def policy(**changes: object) -> ScrubPolicy:
    return load_policy().model_copy(update=changes)


@pytest.fixture(scope="module")
def pool(detector: BuiltDetector) -> Iterator[Search]:
    with searching(policy(**QUICK), detector, WORKERS) as search:
        search.ask(["warm"]).wait()
        yield search


def searched(search: Search, texts: list[str]) -> list[Any]:
    """The findings of each text, or the rule it broke."""
    asked = search.ask(texts)
    asked.wait()
    outcomes: list[Any] = []
    for text in texts:
        try:
            outcomes.append(asked(text))
        except RowRejected as rejected:
            outcomes.append(rejected.rule)
    return outcomes


def worker_processes() -> list[psutil.Process]:
    """Children of the process that they are forked from."""
    return [
        worker
        for server in psutil.Process().children()
        if "multiprocessing.forkserver" in " ".join(server.cmdline())
        for worker in server.children()
    ]


def test_processes_find_what_one_finds(pool: Search, detector: BuiltDetector) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker; more share out a sum, and round otherwise
    try:
        alone = Finder(pool.policy, Path(detector.path)).find(TEXTS)
    finally:
        torch.set_num_threads(threads)
    assert searched(pool, TEXTS) == alone
    assert all(found for found in alone)


def test_a_text_that_takes_too_long_is_given_up_and_no_other(pool: Search) -> None:
    bomb = "a. 1 " * 1_000_000
    started = time.monotonic()
    outcomes = searched(pool, [*(f"{text}!" for text in TEXTS), bomb])
    assert outcomes[-1] == "scrub: took too long"
    assert all(isinstance(found, list) and found for found in outcomes[:-1])
    assert time.monotonic() - started < 60
    assert searched(pool, ["the pool still answers a@b.com"])[0][0].entity == "EMAIL_ADDRESS"


def test_a_worker_that_dies_is_replaced_and_loses_nothing(pool: Search) -> None:
    texts = [f"{number} {text} " + "and so on. " * 400 for number, text in enumerate(TEXTS)]
    killed: list[int] = []

    def kill() -> None:
        time.sleep(0.5)
        for process in worker_processes()[:1]:
            process.kill()
            killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = searched(pool, texts)
    killer.join()
    assert killed
    assert all(isinstance(found, list) and found for found in outcomes)


def test_what_no_encoding_holds_is_searched_all_the_same(pool: Search) -> None:
    for text in ("half \ud83d of an emoji, a@b.com", "a@b.com \udc00\ud800", "\x00 a@b.com \x00"):
        (found,) = searched(pool, [text])
        assert [text[one.start : one.end] for one in found if one.score > 0.9] == ["a@b.com"]


def test_a_crash_leaves_no_memory_image(pool: Search) -> None:
    import resource

    for process in (psutil.Process(), *worker_processes()):
        soft, _ = resource.prlimit(process.pid, resource.RLIMIT_CORE)
        assert soft == 0


def test_a_dask_cluster_does_the_same(detector: BuiltDetector, workspace: Workspace) -> None:
    """A real scheduler and two worker processes, one of which is killed on the way."""
    from distributed import LocalCluster

    file = write_jsonl(workspace.home / "chats.jsonl", personal(300))
    here = scrubbed(file, workspace, detector, {"count": 0})
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, scheduler_port=0
    ) as cluster:
        elsewhere = Workspace(home=workspace.home / "elsewhere")
        elsewhere.create()
        settings = {"runner": "dask", "address": cluster.scheduler_address}
        victim = next(iter(cluster.workers.values())).process.pid
        threading.Timer(1.0, os.kill, (victim, signal.SIGKILL)).start()
        there = scrubbed(file, elsewhere, detector, settings)
    assert there == here
    assert len(here) == 300


def test_a_cluster_that_is_not_there_is_named(detector: BuiltDetector) -> None:
    for address, message in ((None, "no scheduler to ask"), ("tcp://127.0.0.1:9", "answers at")):
        settings = WorkerSettings(runner="dask", address=address)
        with pytest.raises(ConfigError, match=message), searching(policy(), detector, settings):
            pass


# The detector runs, but nothing else is replaced: rows stay as distinct as they were.
ADDRESSES = "version: 1\nentities: {EMAIL_ADDRESS: {threshold: 0.4}}\n"


def personal(count: int) -> list[dict[str, Any]]:
    rows = conversations(count)
    for number, row in enumerate(rows):
        row["id"] = str(UUID(int=number))
        row["messages"][0]["content"] += f" I am user{number}@example.com"
    return rows


def scrubbed(
    file: Path, workspace: Workspace, detector: BuiltDetector, workers: dict[str, Any]
) -> list[dict[str, Any]]:
    settings = ScrubSettings.model_validate({"workers": workers, "audit": {"records": 0}})
    listing = ingest(IngestSettings(sources=(Source(path=str(file)),)), passing_key())
    rules = file.with_name("policy.yaml")
    rules.write_text(ADDRESSES)
    job = Job(load_policy(str(rules)), detector, settings, workspace)
    clean = cleaned(listing, job, distinct=True)
    return [row for table in clean.tables() for row in table.to_pylist()]


def shards(home: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (home / "cache/scrub").glob("*.parquet")}


def test_killed_it_goes_on_and_a_file_that_grew_costs_its_new_part(tmp_path: Path) -> None:
    home, output = tmp_path / "home", tmp_path / "out.jsonl"
    rows = personal(9_000)  # five shards
    file = write_jsonl(tmp_path / "chats.jsonl", rows)
    rules = tmp_path / "policy.yaml"
    rules.write_text(ADDRESSES)
    arguments = ("scrub", file, output, "--policy", rules)
    workers = {"EVERGREEN_SCRUB__WORKERS__COUNT": "2"}
    process = subprocess.Popen(
        command(*arguments), env=environment(home, **workers), stdout=subprocess.DEVNULL
    )
    try:
        while len(shards(home)) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, "workers outlive the scrub that was killed"
    assert not output.exists()
    kept = shards(home)
    assert 2 <= len(kept) < 5

    done = evergreen(*arguments, home=home, **workers)
    assert done.returncode == 0, done.stderr
    assert kept.items() <= shards(home).items()
    came = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [row["id"] for row in came] == [row["id"] for row in rows]
    assert "@example.com" not in output.read_text("utf-8")

    before = shards(home)
    write_jsonl(file, personal(9_050))
    done = evergreen(*arguments, home=home, **workers)
    assert done.returncode == 0, done.stderr
    assert before.items() <= shards(home).items()
    assert len(shards(home)) == len(before) + 1
    assert len(output.read_text("utf-8").splitlines()) == 9_050


def test_a_damaged_shard_is_said_and_made_again(tmp_path: Path) -> None:
    home, output = tmp_path / "home", tmp_path / "out.jsonl"
    file = write_jsonl(tmp_path / "chats.jsonl", personal(500))
    assert evergreen("scrub", file, output, home=home).returncode == 0
    first = output.read_bytes()
    (shard,) = (home / "cache/scrub").glob("*.parquet")
    content = bytearray(shard.read_bytes())
    for at in range(200, 1200):
        content[at] ^= 0xFF
    shard.write_bytes(content)
    done = evergreen("scrub", file, output, home=home)
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert output.read_bytes() == first
    assert evergreen("scrub", file, output, home=home).returncode == 0
    assert output.read_bytes() == first
