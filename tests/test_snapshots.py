"""Snapshots are whole or not there, and notice when they were changed."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_contracts.errors import DataError
from data_contracts.partial import partial_folder, remove_abandoned
from data_contracts.records import Message, Record
from data_contracts.snapshots import (
    QuarantinedRow,
    RowAccount,
    SnapshotWriter,
    write_records,
)


def records(count: int) -> list[Record]:
    return [
        Record(
            id=str(number),
            messages=(
                Message(role="user", content=f"question {number}"),
                Message(role="assistant", content="réponse 🙂"),
            ),
            source="test",
        )
        for number in range(count)
    ]


def test_round_trip_over_several_shards(tmp_path: Path) -> None:
    with SnapshotWriter(
        str(tmp_path), "x", parent="p", provenance={"a": "b"}, shard_rows=3
    ) as writer:
        for record in records(7):
            writer.write(record)
        writer.quarantine(QuarantinedRow(id="q", rule="r", digest="d", source="s"))
        snapshot = writer.commit(rows_in=9, duplicates=1)
    assert list(snapshot.records()) == records(7)
    assert [row.rule for row in snapshot.quarantined()] == ["r"]
    assert len(snapshot.manifest().shards) == 3
    snapshot.verify()


def test_same_content_same_name(tmp_path: Path) -> None:
    first = write_records(str(tmp_path), "x", records(4), parent=None, provenance={})
    again = write_records(str(tmp_path), "x", records(4), parent=None, provenance={})
    other = write_records(str(tmp_path), "x", records(5), parent=None, provenance={})
    assert first == again
    assert other.digest != first.digest
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="disk"):
        with SnapshotWriter(str(tmp_path), "x", parent=None, provenance={}) as writer:
            writer.write(records(1)[0])
            raise RuntimeError("disk")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writers_remains_are_removed_and_no_others(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from data_contracts.partial import partial_folder;"
        " partial_folder(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert len(list(tmp_path.iterdir())) == 1
    at_work = partial_folder(tmp_path)
    kept = write_records(str(tmp_path), "x", records(1), parent=None, provenance={})
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {Path(kept.path).name, at_work.name}


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "manifest"])
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    snapshot = write_records(str(tmp_path), "x", records(5), parent=None, provenance={})
    shard = Path(snapshot.path) / "part-00000.parquet"
    content = bytearray(shard.read_bytes())
    if damage == "truncate":
        shard.write_bytes(content[:-7])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    elif damage == "delete":
        shard.unlink()
    else:
        manifest = Path(snapshot.path) / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"rows": 5', '"rows": 4'))
    with pytest.raises(DataError, match="damaged"):
        snapshot.verify()
    with pytest.raises(DataError, match="damaged"):
        list(snapshot.records())


@given(*(st.integers(min_value=0, max_value=100) for _ in range(4)))
def test_an_account_balances_or_cannot_be_made(
    rows_in: int, rows_out: int, quarantined: int, duplicates: int
) -> None:
    fields = {
        "rows_in": rows_in,
        "rows_out": rows_out,
        "quarantined": quarantined,
        "duplicates": duplicates,
    }
    if rows_in == rows_out + quarantined + duplicates:
        assert RowAccount(**fields).rows_in == rows_in
    else:
        with pytest.raises(ValidationError, match="do not balance"):
            RowAccount(**fields)


def test_rows_that_do_not_balance_are_not_committed(tmp_path: Path) -> None:
    with SnapshotWriter(str(tmp_path), "x", parent=None, provenance={}) as writer:
        writer.write(records(1)[0])
        with pytest.raises(ValidationError, match="do not balance"):
            writer.commit(rows_in=2)
    assert list(tmp_path.iterdir()) == []
