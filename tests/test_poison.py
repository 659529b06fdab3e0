"""Single records that once stopped the watch: each is counted, and no other record is lost."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.contract import INFERENCE_LOGS, load_contract
from data_contracts.errors import RowRejected
from data_contracts.policy import ScrubPolicy, load_policy
from data_contracts.records import Record
from data_contracts.workspace import Workspace
from tasks.drift.features import one_exchange
from tasks.ingest import IngestSettings, Source, ingest
from tasks.logs import LogWindow, Pending, WatchSettings, cut, rules
from tasks.scrub.stage import Job, ScrubSettings, cleaned
from tasks.scrub.workers import Search, WorkerSettings, searching
from tasks.sources import Row
from tasks.text import is_refusal, language
from tasks.watch import keep_window, scrub_window
from tests.logs import NOW, hour
from tests.poison import RAW, poison
from tests.test_logs import KEY, KEYS, looked

POISON = poison()
GOOD = [json.dumps(row).encode() + b"\n" for row in hour(1000, 3)]
ONE_PROCESS = WorkerSettings(count=0)


def cheap_policy() -> ScrubPolicy:
    """Without a detector, and with one kind of personal data."""
    policy = load_policy()
    few = {name: rule for name, rule in policy.entities.items() if name == "EMAIL_ADDRESS"}
    return policy.model_copy(update={"detector": False, "entities": few})


@pytest.fixture(scope="module")
def search() -> Iterator[Search]:
    with searching(cheap_policy(), None, ONE_PROCESS) as found:
        yield found


def all_of(pending: Pending) -> LogWindow:
    """One window of everything, whatever its time."""
    entries = [entry for entry in pending.entries if entry.state not in pending.beginnings]
    return LogWindow(pending.entries[0].at, pending.entries[-1].at + 1, pending.entries, entries)


def good(records: list[Record]) -> int:
    """How many of the thousand are there."""
    texts = {record.messages[0].content for record in records}
    return sum(json.loads(line)["request"]["messages"][0]["content"] in texts for line in GOOD)


def test_all_of_them_among_a_thousand_good_ones(
    tmp_path: Path, workspace: Workspace, search: Search
) -> None:
    lines = list(GOOD)
    for number, line in enumerate(POISON.values()):
        lines.insert(4 * number, line + b"\n")
    (tmp_path / "logs.jsonl").write_bytes(b"".join(lines))
    pending = looked(tmp_path / "logs.jsonl")
    assert not pending.damaged
    rejected = len(pending.quarantined)
    assert len(lines) == len(pending.entries) + rejected + pending.duplicates
    windows, waiting = cut(pending, WatchSettings(min_records=30, max_records=5000), NOW)
    assert sum(len(window.entries) for window in windows) + waiting == len(pending.entries)

    window = all_of(pending)
    scrubbed = scrub_window(window, pending, 5000, search, KEYS, lambda *_: None)
    assert good(scrubbed.records) == 1000
    contract = load_contract(default=INFERENCE_LOGS)
    kept = keep_window(scrubbed, "none", contract, workspace)
    records = list(kept.snapshot.records())
    assert good(records) == 1000
    assert kept.account.records == len(pending.entries)
    for record in records:
        narrow = one_exchange(record)
        if narrow is not None:
            language(narrow.messages[0].text)
            is_refusal(narrow.messages[1].text)


@pytest.mark.parametrize("name", sorted(RAW))
def test_a_broken_first_line_costs_no_other(name: str, tmp_path: Path) -> None:
    (tmp_path / "logs.jsonl").write_bytes(RAW[name] + b"\n" + b"".join(GOOD))
    pending = looked(tmp_path / "logs.jsonl")
    assert len(pending.entries) + pending.duplicates + len(pending.quarantined) == 1001
    assert len(pending.entries) >= 1000


def test_some_broken_first_lines_cost_no_other(tmp_path: Path) -> None:
    (tmp_path / "logs.jsonl").write_bytes(b"[\n[1,\n{\n" + b"".join(GOOD))
    pending = looked(tmp_path / "logs.jsonl")
    assert (len(pending.entries), len(pending.quarantined)) == (1000, 3)


def test_the_same_in_training(tmp_path: Path, workspace: Workspace) -> None:
    lines = list(GOOD)
    for number, line in enumerate(POISON.values()):
        lines.insert(4 * number, line + b"\n")
    (tmp_path / "data.jsonl").write_bytes(b"".join(lines))
    listing = ingest(IngestSettings(sources=(Source(path=str(tmp_path / "data.jsonl")),)), KEY)
    settings = ScrubSettings(workers=ONE_PROCESS).without_audit()
    clean = cleaned(listing, Job(cheap_policy(), None, settings, workspace), distinct=True)
    assert clean.account.rows_in == listing.rows_in == len(lines)
    records = [
        Record.model_validate({**row, "labelled_spans": ()})
        for table in clean.tables()
        for row in table.to_pylist()
    ]
    assert good(records) == 1000


def test_poison_is_rejected_by_rule_and_never_quoted() -> None:
    told: Counter[str] = Counter()
    for line in POISON.values():
        try:
            Row(0, line).read("f")
        except RowRejected as rejected:
            told[rejected.rule] += 1
            assert len(rejected.rule) < 150
    assert all(rule.isprintable() for rule in told)


def test_rows_that_are_broken_in_the_same_way_are_counted_each(tmp_path: Path) -> None:
    (tmp_path / "logs.jsonl").write_bytes(b"nonsense\n" * 3 + b"".join(GOOD))
    pending = looked(tmp_path / "logs.jsonl")
    assert rules(pending.quarantined) == {"row: not JSON": 3}
    assert len({row.digest for row in pending.quarantined}) == 1


def test_whatever_breaks_in_the_scrub_of_a_row_is_its_own(
    tmp_path: Path, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.scrub import records

    real = records.scrub_record

    def fails(record: Record, *rest: Any) -> Any:
        number = int(record.messages[0].content.rpartition("-")[2].rstrip("?"))
        if number % 100 == 7:
            raise (MemoryError, np.linalg.LinAlgError, RecursionError, OverflowError)[number // 300]
        return real(record, *rest)

    monkeypatch.setattr(records, "scrub_record", fails)
    (tmp_path / "logs.jsonl").write_bytes(b"".join(GOOD))
    pending = looked(tmp_path / "logs.jsonl")
    scrubbed = scrub_window(all_of(pending), pending, 5000, search, KEYS, lambda *_: None)
    assert len(scrubbed.records) == 990
    assert Counter(row.rule for row in scrubbed.quarantined) == {
        "scrub: MemoryError": 3,
        "scrub: LinAlgError": 3,
        "scrub: RecursionError": 3,
        "scrub: OverflowError": 1,
    }
