"""Rows through the scrub: each kept, under its own id where that is nobody's, and what is changed
of them counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import DataError
from data_contracts.findings import Finding
from data_contracts.home_keys import passing_key
from data_contracts.policy import load_policy
from data_contracts.workspace import Workspace
from tasks.ingest import IngestSettings, Source, ingest
from tasks.scrub import Job, ScrubSettings, scrub
from tasks.scrub.audit import Audit, AuditSettings, Changed, changed_by, most_replaced, require
from tasks.scrub.stage import Clean, cleaned
from tasks.scrub.workers import WorkerSettings, searching
from tests.commands import assert_one_line_error, evergreen
from tests.tiny import write_jsonl

POLICY = load_policy().model_copy(update={"detector": False})


def job(workspace: Workspace, records: int = 0) -> Job:
    settings = ScrubSettings.model_validate(
        {"workers": {"count": 0}, "audit": {"records": records}}
    )
    return Job(POLICY, None, settings, workspace)


def listed(folder: Path, rows: list[Any]) -> Any:
    file = write_jsonl(folder / "raw.jsonl", rows)
    return ingest(IngestSettings(sources=(Source(path=str(file)),)), passing_key())


def chat(identifier: str | None, said: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "messages": [{"role": "user", "content": said}, {"role": "assistant", "content": "Noted."}]
    }
    return row if identifier is None else {"id": identifier, **row}


def ids_of(clean: Clean) -> list[str]:
    return [one for table in clean.tables() for one in table["id"].to_pylist()]


# Two rows that differ in personal data alone, and one that comes twice.
ROWS = [
    chat("a", "mail to one@example.com"),
    chat("b", "mail to two@example.org"),
    chat("c", "mail to one@example.com"),
]


def test_rows_that_differ_in_personal_data_alone_are_several(
    tmp_path: Path, workspace: Workspace
) -> None:
    made = scrub(listed(tmp_path, ROWS), job(workspace))
    assert [record.id for record in made.snapshot.records()] == ["a", "b"]
    assert made.report.account.duplicates == 1
    texts = {record.messages[0].content for record in made.snapshot.records()}
    assert texts == {"mail to <EMAIL_ADDRESS_1>"}


def test_whoever_asks_for_the_scrub_alone_gets_every_row(
    tmp_path: Path, workspace: Workspace
) -> None:
    clean = cleaned(listed(tmp_path, ROWS), job(workspace), distinct=False)
    assert ids_of(clean) == ["a", "b", "c"]
    assert (clean.account.rows_out, clean.account.duplicates) == (3, 0)
    assert "raw" not in next(iter(clean.tables())).column_names, "the mark of duplicates is ours"


@pytest.mark.parametrize(
    "identifier",
    [
        "g123", "row-17", "2125551234", "4155550132", "17", "conv_000481", "2024-05-01/3",
        "deadbeef", "mark-down-3", "ticket#55120", "chatcmpl-9Xa71Bq", "78.12.3",
    ],
)  # fmt: skip
def test_an_id_that_is_a_code_stays(tmp_path: Path, workspace: Workspace, identifier: str) -> None:
    made = scrub(listed(tmp_path, [chat(identifier, "hello")]), job(workspace))
    assert [record.id for record in made.snapshot.records()] == [identifier]
    assert made.report.ids_replaced == 0


@pytest.mark.parametrize(
    "identifier",
    [
        "ada@example.com",
        "+44 20 7946 0958",
        "DE89 3704 0044 0532 0130 00",
        "00:1B:44:11:3A:B7",
        "536-22-8727",
    ],
)
def test_an_id_that_is_personal_data_goes_and_is_counted(
    tmp_path: Path, workspace: Workspace, identifier: str
) -> None:
    made = scrub(listed(tmp_path, [chat(identifier, "hello")]), job(workspace))
    (record,) = made.snapshot.records()
    assert record.id.startswith("row~")
    assert made.report.ids_replaced == 1


def test_an_id_that_holds_what_its_conversation_holds_goes(
    tmp_path: Path, workspace: Workspace
) -> None:
    said = "mine is 536-22-8727, write to ada@example.com"
    rows = [chat(one, said) for one in ("q-mine is 536-22-8727", "7:ada_example.com", "x-536")]
    made = scrub(listed(tmp_path, rows), job(workspace))
    assert [one.id.startswith("row~") for one in made.snapshot.records()] == [True]
    clean = cleaned(listed(tmp_path, rows), job(workspace), distinct=False)
    assert [one.startswith("row~") for one in ids_of(clean)] == [True, True, False]


# -- how much is changed --------------------------------------------------------------


def test_what_is_changed_is_counted_in_words_and_numbers() -> None:
    text = "Call Ada on 030 901820, or pay 3.50 by May."
    ada, number = text.index("Ada"), text.index("030")
    found = [Finding(ada, ada + 3, "PERSON"), Finding(number, number + 10, "PHONE_NUMBER")]
    changed = changed_by([(text, found), ("nothing here", [])])
    assert (changed.words, changed.words_replaced) == (9, 1)
    assert (changed.numbers, changed.numbers_replaced) == (3, 2)
    assert changed.share == 0, "so few say nothing of a share"


def test_a_scrub_that_replaces_too_much_trains_nothing() -> None:
    changed = Changed(words=1000, words_replaced=10, numbers=400, numbers_replaced=100)
    audited = Audit(records=9, planted={"PERSON": 9}, replaced={"PERSON": 9}, changed=changed)
    with pytest.raises(DataError, match=r"25.0% of 400 numbers .*max_changed is 20.0%"):
        require(audited, AuditSettings())
    require(audited, AuditSettings(max_changed=0.3))
    require(audited.model_copy(update={"changed": Changed()}), AuditSettings())


def test_what_is_replaced_most_is_shown_by_kind(tmp_path: Path, workspace: Workspace) -> None:
    listing = listed(tmp_path, [chat(str(n), f"a@b.com {n} and c{n % 2}@d.org") for n in range(9)])
    with searching(POLICY, None, WorkerSettings(count=0)) as search:
        shown = most_replaced(listing, search, AuditSettings(records=200))
    assert list(shown) == ["EMAIL_ADDRESS"]
    strings = dict(shown["EMAIL_ADDRESS"])
    assert set(strings) <= {"a@b.com", "c0@d.org", "c1@d.org"}
    assert strings["a@b.com"] >= strings["c0@d.org"]


def test_the_command_keeps_every_row_and_shows_only_on_request(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "raw.jsonl", ROWS)
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 3\ndetector: false\nentities: {EMAIL_ADDRESS: {threshold: 0.4}}\n")
    command = ("scrub", file, tmp_path / "out.jsonl", "--policy", policy)
    quiet = evergreen(*command, home=tmp_path / "home")
    assert quiet.returncode == 0, quiet.stderr
    assert "example.com" not in quiet.stdout + quiet.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    shown = evergreen(*command, "--show-replaced", home=tmp_path / "home")
    assert shown.returncode == 0, shown.stderr
    assert "one@example.com" in shown.stdout
    refused = evergreen(*command, "--show-replaced", "--json", home=tmp_path / "home")
    assert_one_line_error(refused, "--show-replaced shows personal data to people")
