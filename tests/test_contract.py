"""The contract is a valid ODCS file; what it says is what Great Expectations checks."""

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

from data_contracts.contract import load_contract
from data_contracts.errors import ConfigError, DataError
from data_contracts.expectations import compile_suites
from data_contracts.records import Message, Record
from data_contracts.snapshots import write_records
from data_contracts.workspace import Workspace
from tasks.validate import ValidateSettings, check, validate

SECRET = "zanzibar-marker-text"


def record(identifier: str, *turns: tuple[str, str], created_at: str | None = None) -> Record:
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    return Record(id=identifier, messages=messages, created_at=created_at, source="test")


def good(identifier: str) -> Record:
    return record(identifier, ("user", f"hello {identifier}"), ("assistant", "hi there"))


BAD = {
    "conversations.assistant_turns: not at least 1": record(
        "no-answer", ("user", SECRET), ("user", "anyone?")
    ),
    "conversations.turns: not between 2 and 4000": record("alone", ("user", SECRET)),
    "messages.role: known_role": record(
        "pirate", ("pirate", SECRET), ("user", "a"), ("assistant", "b")
    ),
    "messages.content: length not between 1 and 100000": record(
        "silent", ("user", SECRET), ("assistant", "")
    ),
    "messages.content: does not match \\S": record("blank", ("user", SECRET), ("assistant", " \n")),
    "conversations.created_at: not between": record(
        "future", ("user", SECRET), ("assistant", "b"), created_at="2999-01-01T00:00:00+00:00"
    ),
}


def test_the_file_is_valid_odcs() -> None:
    schema = json.loads(
        resources.files("open_data_contract_standard").joinpath("schema.json").read_text("utf-8")
    )
    contract = yaml.safe_load(
        resources.files("data_contracts").joinpath("conversations.odcs.yaml").read_text("utf-8")
    )
    jsonschema.validate(contract, schema)


def test_good_rows_go_on_bad_rows_are_quarantined_by_rule(workspace: Workspace) -> None:
    records = [good("1"), *BAD.values(), good("2")]
    scrubbed = write_records(str(workspace.snapshots), "scrub", records, parent=None, provenance={})
    validated = validate(scrubbed, load_contract(), ValidateSettings(), workspace)
    assert [row.id for row in validated.snapshot.records()] == ["1", "2"]
    found = {row.id: row.rule for row in validated.snapshot.quarantined()}
    assert set(found) == {row.id for row in BAD.values()}
    for rule, row in BAD.items():
        assert found[row.id].startswith(rule)
    account = validated.snapshot.account
    assert (account.rows_in, account.rows_out, account.quarantined) == (8, 2, 6)

    docs = Path(validated.data_docs)
    pages = [page.read_text("utf-8") for page in docs.parent.rglob("*.html")]
    assert docs.is_file()
    assert any("known_role" in page or "value_set" in page or "assistant" in page for page in pages)
    assert not any(SECRET in page or "pirate" in page for page in pages)


def test_a_rule_about_the_table_stops_the_run() -> None:
    with pytest.raises(DataError, match="some_rows"):
        check([], load_contract())


def test_too_many_bad_rows_stop_the_run(workspace: Workspace) -> None:
    scrubbed = write_records(
        str(workspace.snapshots), "scrub", list(BAD.values()), parent=None, provenance={}
    )
    with pytest.raises(DataError, match="6 of 6"):
        validate(scrubbed, load_contract(), ValidateSettings(), workspace)


def changed(tmp_path: Path, old: str, new: str) -> str:
    text = resources.files("data_contracts").joinpath("conversations.odcs.yaml").read_text("utf-8")
    assert old in text
    file = tmp_path / "contract.yaml"
    file.write_text(text.replace(old, new), encoding="utf-8")
    return str(file)


def test_a_changed_contract_changes_the_verdict(tmp_path: Path) -> None:
    stricter = load_contract(changed(tmp_path, "minimum: 2\n", "minimum: 3\n"))
    assert check([good("1")], load_contract()).broken == {}
    assert check([good("1")], stricter).broken == {0: "conversations.turns: not between 3 and 4000"}


def test_a_custom_expectation_can_be_named(tmp_path: Path) -> None:
    custom = (
        "\n        quality:\n          - type: custom\n            name: short\n"
        "            engine: greatExpectations\n            implementation:\n"
        "              expectation: ExpectColumnValueLengthsToBeBetween\n"
        "              max_value: 1\n      - name: turns"
    )
    contract = load_contract(changed(tmp_path, "\n      - name: turns", custom))
    assert check([good("1"), good("22")], contract).broken == {1: "conversations.id: short"}


def test_a_rule_that_cannot_be_checked_is_refused(tmp_path: Path) -> None:
    contract = load_contract(changed(tmp_path, "metric: rowCount", "metric: freshness"))
    with pytest.raises(ConfigError, match="cannot be checked"):
        compile_suites(contract)


@pytest.mark.parametrize("text", ["a: [", "kind: Other", "42"])
def test_a_file_that_is_no_contract(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_contract(str(file))
