"""What is kept of raw text cannot be turned back: telephone numbers are tried, all of a range."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import RowRejected
from data_contracts.formats import parse_record
from data_contracts.home_keys import LOGS, ROWS, home_key
from data_contracts.labels import OTHER, label_name
from data_contracts.policy import load_policy
from data_contracts.records import Message, Record
from data_contracts.workspace import Workspace
from tasks.ingest import IngestSettings, Source, ingest
from tasks.ledger.database import Ledger, LedgerSettings
from tasks.ledger.episodes import CountedRecords, EpisodeSettings, JudgedWindow, count_window
from tasks.logs import CountedBefore, LogWindow, WatchSettings, look, quarantine_digest
from tasks.paths import shown_all
from tasks.scrub.engine import Scrubber
from tasks.scrub.file_names import scrub_file_name
from tasks.scrub.records import scrub_records
from tasks.scrub.report import as_json, write
from tasks.scrub.stage import Job, ScrubSettings, cleaned
from tasks.scrub.workers import WorkerSettings, searching
from tasks.sources import pii_sentences
from tests.commands import assert_one_line_error, evergreen
from tests.digest_attack import Attack, serialisations
from tests.leaks import content_of
from tests.tiny import conversations, write_jsonl

# The true one is among them, so that more of them would take longer and find no more.
NUMBERS = [f"+1 415 555 {last:04}" for last in range(2600, 2800)]
NUMBER = NUMBERS[71]
PATTERNS = Path(__file__).parent / "patterns.yaml"


def rows_about(number: str) -> list[dict[str, Any]]:
    """Rows whose only secret is the number: in a text, as an id, in what is quarantined."""

    def said(*contents: str) -> list[dict[str, str]]:
        turns = zip(("user", "assistant"), contents, strict=False)
        return [{"role": role, "content": text} for role, text in turns]

    at = 1_760_000_000
    chat = {"id": "a", "messages": said(f"call {number} please", "I will.")}
    log = {
        "timestamp": at,
        "request": {"messages": said("my number?")},
        "response": {"choices": [{"message": {"role": "assistant", "content": number}}]},
    }
    return [
        chat,
        {"id": number, "messages": said("who am I?", "You are that.")},
        {**chat, "id": "again"},
        {"id": "a", "messages": said("call me", f"At {number}.")},
        {"id": f"caller {number}", "messages": said(number, "Thanks.")},
        {"text": number},
        {"id": "q", "messages": [*said(number), {"role": number, "content": "x"}]},
        {"id": "l", "messages": said(number, "x" * 100_001)},
        log,
        {**log, "id": number},
        {**log, "workload_id": number.replace(" ", ""), "timestamp": at + 1},
    ]


def candidates() -> Iterator[tuple[str, bytes]]:
    for number in NUMBERS:
        for text in (number, f"{number}.jsonl", number.replace(" ", "")):
            yield number, text.encode()
            yield number, json.dumps(text).encode()
        for row in rows_about(number):
            for content in serialisations(row):
                yield number, content


@pytest.fixture(scope="module")
def attack() -> Attack:
    return Attack(candidates())


def test_no_number_is_recovered_from_a_scrub_or_what_it_keeps(
    attack: Attack, tmp_path: Path
) -> None:
    data, home, out = tmp_path / "data", tmp_path / "home", tmp_path / "out"
    data.mkdir()
    out.mkdir()
    lines = [json.dumps(row) + "\n" for row in [*conversations(20), *rows_about(NUMBER)]]
    (data / "chats.jsonl").write_text("".join(lines))
    for number, line in enumerate(lines[-11:]):  # files of one row: their digest is the row's
        (data / f"{number}.jsonl").write_text(line)
    (data / f"{NUMBER}.jsonl").write_text(lines[0])
    command = ("scrub", data, out / "clean.parquet", "--policy", PATTERNS, "--json")
    done = evergreen(*command, "--report", out / "report.json", home=home)
    assert done.returncode == 0, done.stderr[-2000:]
    (out / "said.json").write_text(done.stdout)
    report = json.loads(done.stdout)
    assert report["account"]["quarantined"] >= 6
    assert report["account"]["rows_out"] >= 30, "rows that repeat others are kept"
    assert len(list((home / "cache" / "scrub").glob("*.parquet"))) == 13
    assert attack.recovered_from(out, home) == {}
    assert attack.recovered((done.stdout + done.stderr).encode()) == set()
    # What is published has no digest of raw text, keyed or not.
    assert not any("digest" in row for row in report["rows"])
    digits = NUMBER.replace(" ", "")
    for file in [*out.rglob("*"), *home.rglob("*")]:
        assert digits not in file.name.replace(" ", "")


def test_no_number_is_recovered_from_what_is_known_of_logs(attack: Attack, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    broken = [{"text": NUMBER}, {**rows_about(NUMBER)[-1], "timestamp": NUMBER}]
    rows = [*rows_about(NUMBER)[-3:], *broken]
    (logs / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace = Workspace(home=tmp_path / "home")
    workspace.create()
    key = home_key(workspace, LOGS)
    before = CountedBefore(key=key, known=lambda _: set(), finished=lambda _: False)
    pending = look(str(logs), WatchSettings(), now=datetime.now(UTC), before=before)
    assert (len(pending.entries), len(pending.quarantined)) == (3, 2)
    window = LogWindow(0, 3600, pending.entries, pending.entries)
    ledger = Ledger(LedgerSettings(), workspace)
    judged = JudgedWindow(
        id=window.id, model="m", champion="1", start=0, end=3600, verdict="quiet", strong=False,
        snapshot="{}", features="", report="",
    )  # fmt: skip
    digests = [(entry.digest, entry.at) for entry in pending.entries]
    digests += [(quarantine_digest(row), 0) for row in pending.quarantined]
    counted = CountedRecords(digests, key=pending.key, forget_before=0)
    assert count_window(ledger, judged, counted, EpisodeSettings(), reason="").counted
    assert attack.recovered_from(workspace.home) == {}
    said = [window.id, *(row.model_dump_json() for row in pending.quarantined)]
    assert attack.recovered("\n".join(said).encode()) == set()


def scrubbed(data: Path, home: Path, *, page: Path | None = None) -> tuple[list[Any], Any]:
    """(the rows, the report) of a scrub with patterns alone."""
    workspace = Workspace(home=home)
    workspace.create()
    listing = ingest(IngestSettings(sources=(Source(path=str(data)),)), home_key(workspace, ROWS))
    settings = ScrubSettings.model_validate({"workers": {"count": 0}, "audit": {"records": 0}})
    job = Job(load_policy(str(PATTERNS)), None, settings, workspace)
    clean = cleaned(listing, job, distinct=True)
    rows = [row for table in clean.tables() for row in table.to_pylist()]
    if page is not None:
        write(clean.report(), clean.source, page)
    quarantined = [row.model_dump(exclude={"digest"}) for row in clean.quarantined()]
    return rows, as_json(clean.report()) | {"rows": quarantined}


def test_a_scrub_is_the_same_in_every_home_and_after_its_key_was_lost(tmp_path: Path) -> None:
    rows = [*conversations(30), *rows_about(NUMBER), *conversations(5)]
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    first = scrubbed(data, tmp_path / "one")
    assert first[1]["account"]["duplicates"] == 8
    assert len({row["id"] for row in first[0]}) == len(first[0])
    again = scrubbed(data, tmp_path / "one")
    other = scrubbed(data, tmp_path / "other")
    kept = set((tmp_path / "one" / "cache" / "scrub").iterdir())
    (tmp_path / "one" / "keys" / "rows").unlink()
    lost = scrubbed(data, tmp_path / "one")
    # Only the cache is another's: nothing in it is known under the new key.
    assert len(set((tmp_path / "one" / "cache" / "scrub").iterdir()) - kept) == len(kept)
    for rows_then, report in (again, other, lost):
        assert rows_then == first[0]
        assert report["account"] == first[1]["account"]
        assert report["rows"] == first[1]["rows"]


def test_rows_that_share_an_id_and_a_text_have_names_of_their_own() -> None:
    """As in a window of traffic, where the same is asked at different times."""
    policy = load_policy(str(PATTERNS))
    records = [
        Record(
            id=identifier,
            messages=(Message(role="user", content=text), Message(role="assistant", content="no")),
            created_at=moment,
            source="log",
        )
        for identifier in (NUMBER, "same", "")
        for text in ("hi", f"call {NUMBER}")
        for moment in ("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00", None, None, None)
    ]
    with searching(policy, None, WorkerSettings(count=0)) as search:
        clean = [one for _, one in scrub_records(records, search, None)]
        ids = [one.id for one in clean if isinstance(one, Record)]
        repeated = [one for _, one in scrub_records(records, search, None)]
    assert len(set(ids)) == len(records)
    assert [one.id for one in repeated if isinstance(one, Record)] == ids
    assert not any("415" in identifier for identifier in ids)


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("john.smith@example.com.jsonl", "smith"),
        ("john.smith@example.com.ndjson", "smith"),
        ("call +1 415 555 2671 back.jsonl", "2671"),
        ("export_415-555-2671.json", "2671"),
        ("GB33BUKB20201555555555.jsonl", "BUKB"),
        ("2026-11-20T10 john@example.org.jsonl", "john"),
    ],
)
def test_a_file_is_not_named_by_personal_data(tmp_path: Path, name: str, gone: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{key: row[key] for key in row if key != "id"} for row in conversations(4)]
    write_jsonl(folder / name, [*rows, {"text": "x"}])
    home, page = tmp_path / "home", tmp_path / "report.html"
    kept, report = scrubbed(folder / name, home, page=page)
    told = json.dumps([kept, report]) + page.read_text()
    told += "".join(str(content_of(file)) for file in (home / "cache").rglob("*.parquet"))
    assert gone not in told
    assert [row["id"].rpartition(":")[2] for row in kept] == list("0123")


def test_ordinary_names_of_files_stay(tmp_path: Path) -> None:
    names = ["chats.jsonl", "support-2026-11-20-10.jsonl", "app.jsonl", "part-00000.parquet"]
    find = Scrubber(load_policy(str(PATTERNS)), None)
    for name in [*names, "replay-old-1234567890123456/part-00000.parquet"]:
        assert scrub_file_name(name, find.find, find.policy, None) == name
    hour = scrub_file_name("415-555-2671.jsonl", find.find, find.policy, None)
    assert hour == "<PHONE_NUMBER_1>.jsonl"


def test_a_path_with_personal_data_is_not_told_by_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "of john.smith@example.com"
    folder.mkdir()
    (folder / "+1 415 555 2671.jsonl").write_text("")
    for command in (("scrub", folder, tmp_path / "x.jsonl"), ("validate", folder)):
        done = evergreen(*command, home=tmp_path / "home")
        assert_one_line_error(done, "has no rows", "<EMAIL_ADDRESS_1>/<PHONE_NUMBER_1>.jsonl")
    two = shown_all({"a/b@example.org": "damaged", "a/c@example.org": "cut"})
    assert two == {"a/<EMAIL_ADDRESS_1>": "damaged", "a/<EMAIL_ADDRESS_1> (2)": "cut"}


@pytest.mark.parametrize(
    "entity",
    [
        "John Smith, +1 415 555 2671",
        "john.smith@example.com",
        "",
        "A" * 65,
        "\x1b[31mPERSON",
        "PERSON\n# heading",
        "<b>",
        "4155552671",
        "_X",
        "NAME__X",
        "P\u202eNOSREP",
    ],
)
def test_a_label_that_is_free_text_costs_its_row(entity: str) -> None:
    row = conversations(1)[0] | {
        "labelled_spans": [{"turn": 0, "start": 0, "end": 3, "entity": entity}]
    }
    with pytest.raises(RowRejected) as rejected:
        parse_record(row, source="s", position=0)
    assert rejected.value.rule == "labelled_spans.entity: not a name such as PHONE_NUMBER"


def test_reports_tell_known_labels_alone(tmp_path: Path) -> None:
    rows = conversations(4)
    for row, entity in zip(rows, ("JOHN_SMITH", "first_name", "B-PER", "John"), strict=True):
        row["labelled_spans"] = [{"turn": 0, "start": 0, "end": 3, "entity": entity}]
    rows.append(conversations(5)[4] | {"labelled_spans": [
        {"turn": 0, "start": 0, "end": 3, "entity": "Smith, John"}]})  # fmt: skip
    clean, report = scrubbed(write_jsonl(tmp_path / "data.jsonl", rows), tmp_path / "home")
    assert report["labelled"] == {"OTHER": 2, "FIRST_NAME": 1, "PER": 1}
    assert (len(clean), report["account"]["quarantined"]) == (4, 1)
    assert "mith" not in json.dumps(report)
    for sample in pii_sentences(300, seed=5):
        for span in sample.spans:
            assert label_name(span.entity_type) == span.entity_type
    assert label_name("CASE_FILE") == OTHER
    assert label_name("CASE_FILE", {"CASE_FILE": 1}) == "CASE_FILE"


def test_the_attack_finds_what_is_there(attack: Attack, tmp_path: Path) -> None:
    row = rows_about(NUMBER)[0]
    digest = hashlib.sha256(json.dumps(row).encode()).hexdigest()
    (tmp_path / "a.json").write_text(json.dumps({"id": f"row~{digest[:12]}"}))
    assert attack.recovered_from(tmp_path) == {str(tmp_path / "a.json"): {NUMBER}}
