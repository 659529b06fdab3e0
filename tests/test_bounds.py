"""No file takes all memory or waits for ever, and the rest of a folder is read all the same."""

import bz2
import gzip
import json
import lzma
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.errors import DataError, RowRejected
from data_contracts.row_limits import MAX_ROW_BYTES, TOO_LONG, TOO_MANY, LostRow
from tasks import parquet_rows as reading
from tasks.found_files import file_format, find_files
from tasks.ingest import IngestSettings, Source, ingest
from tasks.logs import rules
from tasks.parquet_rows import CANNOT_DECODE, parquet_rows
from tasks.sources import Row, contents
from tests.logs import NOW, hour, write_log
from tests.test_log_formats import DATA
from tests.test_logs import KEY, looked

# More than a decoder may take in these tests: that they are done with less shows it as well.
LARGE = 120 << 20
MEMORY = LARGE
BOUND = 300 << 20

# Reads a folder as logs and as training data, and says what it found and the memory that took.
READER = """
import json, resource, sys
from collections import Counter
from data_contracts.errors import RowRejected
from tasks.ingest import IngestSettings, Source, ingest
from tasks.logs import CountedBefore, look, rules, WatchSettings
from tasks.row_boundary import row_boundary
from tests.logs import NOW
import tasks.parquet_rows

tasks.parquet_rows.MEMORY = int(sys.argv[2])

def peak():
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(resource.getrusage(kind).ru_maxrss * 1024 for kind in kinds)

base = peak()
before = CountedBefore(key=b"k" * 32, known=lambda _: set(), finished=lambda _: False)
pending = look(sys.argv[1], WatchSettings(), now=NOW, before=before)
told, read = Counter(), 0
for file, row in ingest(IngestSettings(sources=(Source(path=sys.argv[1]),)), b"k" * 32).rows():
    try:
        with row_boundary("row"):
            row.read(file.name)
        read += 1
    except RowRejected as rejected:
        told[rejected.rule] += 1
print(json.dumps({"entries": len(pending.entries), "rules": rules(pending.quarantined),
                  "damaged": list(pending.damaged), "read": read, "told": told,
                  "peak": peak() - base}))
"""


def read_in_a_process(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", READER, str(folder), str(MEMORY)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def gzip_without_a_line_feed(file: Path) -> str:
    """Some hundred kilobytes: one member again and again."""
    member = gzip.compress(b"x" * (16 << 20))
    with file.with_suffix(".jsonl.gz").open("wb") as out:
        for _ in range(20):
            out.write(member)
    return TOO_LONG


def a_row_of_32_mib(file: Path) -> str:
    file.with_suffix(".jsonl").write_bytes(b'{"request": "' + b"x" * (32 << 20) + b'"}\n')
    return TOO_LONG


def a_row_of_many_objects(file: Path) -> str:
    """Each of two bytes takes seventy once it is read."""
    file.with_suffix(".jsonl").write_bytes(b'{"request": [' + b"{}," * (2 << 20) + b"{}]}\n")
    return TOO_MANY


def parquet_of_one_text_again_and_again(file: Path) -> str:
    """A gigabyte in three kilobytes."""
    text = pa.array(["x" * (10 << 20)])
    repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100, np.int32)), text)
    pq.write_table(pa.table({"request": repeated}), file.with_suffix(".parquet"))
    return TOO_LONG


def parquet_of_one_large_text(file: Path) -> str:
    texts = pa.array(["y" * LARGE], pa.large_string())
    write_plain(file.with_suffix(".parquet"), [texts])
    return CANNOT_DECODE


def parquet_of_a_list_of_nothing(file: Path) -> str:
    nothing = pa.ListArray.from_arrays([0, 2_000_000], pa.nulls(2_000_000, pa.int8()))
    pq.write_table(pa.table({"request": nothing}), file.with_suffix(".parquet"))
    return TOO_MANY


def write_plain(file: Path, groups: list[pa.Array]) -> None:
    """Row groups without a dictionary, which zstd makes small."""
    schema = pa.schema([("request", pa.large_string())])
    how = {"use_dictionary": False, "compression": "zstd", "write_statistics": False}
    with pq.ParquetWriter(file, schema, **how) as writer:
        for group in groups:
            writer.write_table(pa.table({"request": group}))


BOMBS: list[Callable[[Path], str]] = [
    gzip_without_a_line_feed,
    a_row_of_32_mib,
    a_row_of_many_objects,
    parquet_of_one_text_again_and_again,
    parquet_of_one_large_text,
    parquet_of_a_list_of_nothing,
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_bounded_memory_and_only_itself(
    bomb: Callable[[Path], str], tmp_path: Path
) -> None:
    rule = bomb(tmp_path / "bomb")
    write_log(tmp_path / "good.jsonl", hour(1000, 3))
    found = read_in_a_process(tmp_path)
    assert found["entries"] == found["read"] == 1000
    assert set(found["rules"]) == set(found["told"]) == {rule}
    assert found["rules"] == found["told"]
    assert not found["damaged"]
    assert found["peak"] < BOUND


def test_xz_that_asks_for_gigabytes_is_damaged(tmp_path: Path) -> None:
    file = bytearray(lzma.compress(b"{}\n"))
    header = slice(12, 12 + 4 * file[12])  # of the first block; its check sum follows
    file[header.start + 4] = 39  # the dictionary that is to be laid out: 3 GiB
    file[header.stop : header.stop + 4] = zlib.crc32(file[header]).to_bytes(4, "little")
    (tmp_path / "wide.jsonl.xz").write_bytes(file)
    write_log(tmp_path / "good.jsonl", hour(40, 3))
    pending = looked(tmp_path)
    ((uri, reason),) = pending.damaged.items()
    assert uri.endswith("wide.jsonl.xz")
    assert "memory" in reason.lower()
    assert len(pending.entries) == 40


# -- Parquet ---------------------------------------------------------------------------------


def test_parquet_rows_are_what_was_written(tmp_path: Path) -> None:
    rows = [
        {
            "id": str(number),
            "messages": [{"role": "user", "content": f"hi {number}"}] * (number % 4),
            "when": None if number % 3 else NOW.replace(tzinfo=None),
        }
        for number in range(1000)
    ]
    table = pa.Table.from_pylist(rows)
    table = table.append_column("kind", pa.array(["a", "b"] * 500).dictionary_encode())
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=300)
    read = list(parquet_rows(str(tmp_path / "rows.parquet")))
    assert read == table.to_pylist()


def test_a_bomb_among_row_groups_costs_its_own_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MEMORY", MEMORY)
    groups = [["a"] * 10, ["b", "y" * LARGE, "c"], ["z"] * 10]
    write_plain(tmp_path / "r.parquet", [pa.array(group, pa.large_string()) for group in groups])
    read = list(parquet_rows(str(tmp_path / "r.parquet")))
    kept = [row["request"] for row in read if not isinstance(row, LostRow)]
    lost = [row for row in read if isinstance(row, LostRow)]
    assert kept == ["a"] * 10 + ["z"] * 10
    assert [row.rule for row in lost] == [CANNOT_DECODE] * 3
    assert len({Row(0, row).digest for row in lost}) == 3


def test_a_decoder_that_dies_or_hangs_costs_one_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"n": list(range(30))})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=10)
    for failure in ("os._exit(9)", "time.sleep(60)"):
        (tmp_path / "sitecustomize.py").write_text(
            "import os, sys, time\n"
            "if 'tasks.parquet_decoder' in sys.orig_argv:\n"
            "    import tasks.parquet_decoder as decoder\n"
            "    pieces = decoder.pieces\n"
            "    def fail(batch):\n"
            f"        if batch.column(0)[0].as_py() == 10: {failure}\n"
            "        yield from pieces(batch)\n"
            "    decoder.pieces = fail\n"
            "    decoder.main(*sys.orig_argv[-3:])\n"
            "    os._exit(0)\n"
        )
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1]}")
        monkeypatch.setattr(reading, "PATIENCE", 5.0)
        read = list(parquet_rows(str(tmp_path / "rows.parquet")))
        kept = [row["n"] for row in read if not isinstance(row, LostRow)]
        assert kept == [*range(10), *range(20, 30)]
        assert len(read) == 30


NO_PARQUET = (b"", b"PAR1", b"PAR1 not really", b"\x00" * 99, b"PAR1" + b"\xff" * 64 + b"PAR1")


@pytest.mark.parametrize("content", NO_PARQUET)
def test_what_is_no_parquet_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_bytes(content)
    with pytest.raises(OSError, match=r"\w"):
        list(parquet_rows(str(tmp_path / "no.parquet")))


# -- what is read of a folder ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "jsonl") for name in ("a.jsonl", "a.ndjson", "a.json", "a.log", "A.JSONL")),
        *((name, "jsonl") for name in ("a.jsonl.1", "a.log.17", "a.jsonl.2.gz", "a.jsonl.gz.2")),
        *((name, "jsonl") for name in ("a-20260901.jsonl.gz", "a.jsonl-20260901", "a.log.old")),
        *((name, "jsonl") for name in ("a.jsonl-20260901.gz", "a.log-20260901-1788249600.bz2")),
        *((name, "jsonl") for name in ("a.log.2026-09-01", "a.log.2026-09-01T08-00.xz")),
        *((name, "jsonl") for name in ("a.jsonl.zst", "a.json.gz", "a.log.2026-09-01_08.lz4")),
        *((name, "parquet") for name in ("a.parquet", "a.parquet.1", "part-0.snappy.parquet")),
        *((name, None) for name in ("a.txt", "a.csv", "jsonl", "a.jsonl.swp", "a.jsonlx", "1")),
        *((name, None) for name in ("a.zip", "notes-2026.md", ".DS_Store", "_SUCCESS", "log.1")),
    ],
)
def test_files_are_told_by_their_names(name: str, kind: str | None) -> None:
    assert file_format(f"/logs/{name}") == kind


def test_rotated_files_are_read_and_their_copies_told(tmp_path: Path) -> None:
    pending = looked(DATA / "odd-logs" / "folder")
    assert len(pending.files) == 5
    # 209 rows: those of app.jsonl, 40 of them three times more and 20 once more.
    assert (len(pending.entries), pending.duplicates) == (66, 140)
    assert sum(rules(pending.quarantined).values()) == 3
    assert not pending.passed_over
    assert pending.readings.unknown == {"latency_ms": 1, "workload_id": 1, "feedback": 1}


def test_every_compression_is_told_by_its_content(tmp_path: Path) -> None:
    lines = [json.dumps(row).encode() + b"\n" for row in hour(40, 3)]
    half = b"".join(lines[:20]), b"".join(lines[20:])
    for name, compress in {
        "a.jsonl.gz": gzip.compress,
        "a.jsonl.bz2": bz2.compress,
        "a.jsonl.xz": lzma.compress,
        "a.jsonl.zst": lambda content: pa.compress(content, "zstd", asbytes=True),
        "a.jsonl.lz4": lambda content: pa.compress(content, "lz4", asbytes=True),
        "a.jsonl": gzip.compress,
        "a.jsonl.1": lzma.compress,
    }.items():
        file = tmp_path / name
        # Two streams in a row, as appending to a compressed log makes them.
        file.write_bytes(compress(half[0]) + compress(half[1]))
        assert list(contents(str(file))) == lines, name
        file.unlink()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_cut_file_gives_what_can_be_had_of_it(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    content = "".join(json.dumps(row) + "\n" for row in hour(4000, 3)).encode()
    whole = compress(content)
    (tmp_path / "cut.jsonl").write_bytes(whole[: 2 * len(whole) // 3])
    pending = looked(tmp_path)
    assert len(pending.damaged) == 1
    assert pending.entries or compress is bz2.compress  # whose blocks are large


def test_pipes_devices_and_sockets_are_named_and_never_opened(tmp_path: Path) -> None:
    write_log(tmp_path / "good.jsonl", hour(40, 3))
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "nowhere.jsonl").symlink_to("nothing")
    (tmp_path / "link-to-pipe.jsonl").symlink_to("pipe.jsonl")
    (tmp_path / "link.jsonl.1").symlink_to("good.jsonl")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "notes.txt").write_text("no rows")
    with socket.socket(socket.AF_UNIX) as end:
        here = Path.cwd()
        os.chdir(tmp_path)  # such a name may be 107 bytes long
        try:
            end.bind("socket.jsonl")
        finally:
            os.chdir(here)
        found = find_files(str(tmp_path))
        pending = looked(tmp_path)
    names = {uri.rsplit("/", 1)[-1]: why for uri, why in found.passed_over.items()}
    special = ("pipe.jsonl", "zero.jsonl", "nowhere.jsonl", "link-to-pipe.jsonl", "socket.jsonl")
    assert names == {
        **dict.fromkeys((*special, "loop"), "not a regular file"),
        "notes.txt": "neither JSONL nor Parquet by its name",
    }
    assert (len(pending.entries), pending.duplicates) == (40, 40)
    assert pending.passed_over == found.passed_over


def test_a_pipe_alone_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="not a regular file"):
        find_files(str(tmp_path / "pipe.jsonl"))


def test_an_empty_file_among_others_is_passed_over_in_training(tmp_path: Path) -> None:
    write_log(tmp_path / "app.jsonl.1", hour(40, 3))
    (tmp_path / "app.jsonl").touch()
    listing = ingest(IngestSettings(sources=(Source(path=str(tmp_path)),)), KEY)
    assert listing.rows_in == 40
    assert list(listing.passed_over.values()) == ["no rows in it"]


# -- rows ------------------------------------------------------------------------------------


def test_the_limit_of_a_row_is_the_largest_that_passes(tmp_path: Path) -> None:
    row = hour(1, 3)[0]
    room = MAX_ROW_BYTES - len(json.dumps(row)) - 1
    for over in (0, 1):
        row["request"]["messages"][0]["content"] = "x" * (
            room + over + len("what about the weather, number 3-0?")
        )
        write_log(tmp_path / "a.jsonl", [row])
        pending = looked(tmp_path)
        assert (len(pending.entries), len(pending.quarantined)) == (1 - over, over)


def test_a_lost_row_is_rejected_by_its_rule() -> None:
    with pytest.raises(RowRejected, match=CANNOT_DECODE):
        Row(0, LostRow(CANNOT_DECODE, "f:0:1")).read("f")
