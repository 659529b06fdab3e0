"""Shards: the scrub of a run of rows, kept under the digest of what it was made of.

A file is scrubbed in runs of rows of its own. What a run became is a Parquet file named by the
digest of its rows, the policy, the detector and the code, so that a scrub that was killed goes on
where it was and data that grows costs only its new part. A shard holds scrubbed rows, the digests
that tell duplicates, and counts. Digests of rows as they were are keyed: a shard is found, and a
row can be guessed, by who has the key of the home alone.
"""

import hmac
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from data_contracts.code_version import code_version
from data_contracts.digests import digest_json
from data_contracts.errors import DataError, RowRejected
from data_contracts.formats import Reading, Readings
from data_contracts.home_keys import ROWS, home_key, keyed_json
from data_contracts.records import Record
from data_contracts.snapshots import RECORD_SCHEMA, QuarantinedRow, as_row
from data_contracts.workspace import Workspace
from tasks.ingest import Listing
from tasks.row_boundary import row_boundary
from tasks.scrub.detector import BuiltDetector
from tasks.scrub.engine import Find, scrub_record, texts
from tasks.scrub.file_names import scrub_file_name, texts_of_name
from tasks.scrub.replace import fingerprint
from tasks.scrub.workers import Asked, Search, find
from tasks.sources import Row, SourceFile

# Of one shard: what a kill loses of each that is under way, and what a grown file costs again.
SHARD_ROWS = 2_000
SHARD_BYTES = 1 << 20
# Shards that are being searched while the one before them is written.
AHEAD = 3
UNUSED_DAYS = 30

SCHEMA = pa.schema(
    [
        *RECORD_SCHEMA,
        ("raw", pa.binary(16)),
        ("clean", pa.binary(16)),
        ("found", pa.string()),
    ]
)


class Found(BaseModel):
    """What was found in one row: counts, never text."""

    model_config = ConfigDict(frozen=True)

    findings: dict[str, int] = {}
    scores: dict[int, int] = {}
    labelled: dict[str, int] = {}
    covered: dict[str, int] = {}
    uncovered: dict[str, int] = {}


NOTHING = Found().model_dump_json()


class RunOfRows:
    """Rows of one file that go into one shard, with the keyed digest of each."""

    def __init__(self, file: SourceFile, key: bytes) -> None:
        self.file = file
        self.rows: list[tuple[Row, str]] = []
        self.bytes = 0
        self._key = key
        self._digest = hmac.new(key, b"run:", "sha256")

    def add(self, row: Row) -> None:
        digest = row.digest(self._key)
        self.rows.append((row, digest))
        self.bytes += row.size
        self._digest.update(f"{row.position}:{digest};".encode())

    @property
    def full(self) -> bool:
        return len(self.rows) >= SHARD_ROWS or self.bytes >= SHARD_BYTES

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


@dataclass(frozen=True)
class Refusal:
    """A row that cannot be scrubbed: where it stands, its keyed digest, the rule it broke."""

    position: int
    digest: str
    rule: str = ""


class Shard(BaseModel):
    """A finished shard."""

    model_config = ConfigDict(frozen=True)

    path: Path
    rows_in: int

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Raises DataError: the file was damaged; it is removed, and made again by another run."""
        try:
            return pq.read_table(self.path, columns=columns, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            self.path.unlink(missing_ok=True)
            raise DataError(
                f"the kept scrub {self.path} was damaged, and is removed", "run the same again"
            ) from error

    def quarantined(self) -> list[QuarantinedRow]:
        stored = json.loads(pq.read_schema(self.path).metadata[b"quarantined"])
        return [QuarantinedRow.model_validate(row) for row in stored]

    @property
    def source(self) -> str:
        """The name of the file that its rows are from, scrubbed."""
        return str(pq.read_schema(self.path).metadata[b"source"].decode())

    def readings(self) -> Readings:
        """What its rows were read as, and what of them was not."""
        return Readings.model_validate_json(pq.read_schema(self.path).metadata[b"readings"])


def runs(listing: Listing, key: bytes) -> Iterator[RunOfRows]:
    """The listing's rows in order, cut where a file ends or a run is full."""
    run: RunOfRows | None = None
    for file, row in listing.rows():
        if run is not None and (run.full or run.file is not file):
            yield run
            run = None
        if run is None:
            run = RunOfRows(file, key)
        run.add(row)
    if run is not None:
        yield run


def shards(
    listing: Listing,
    search: Search,
    key: bytes | None,
    detector: BuiltDetector | None,
    workspace: Workspace,
    on_progress: Callable[[int, int], None],
) -> Iterator[Shard]:
    """Every run's shard in order, found in the workspace or made now.

    Args:
        listing: which rows.
        search: finds personal data; `AHEAD` runs are being searched at a time.
        key: of pseudonyms and surrogates.
        detector: the learned detector that it finds with.
        workspace: where shards are kept, and the key of their digests.
        on_progress: called with (rows done, rows in all).
    """
    folder, row_key = workspace.cache / "scrub", home_key(workspace, ROWS)
    made_with = digest_json(
        {
            "policy": search.policy.digest,
            "key": fingerprint(key),
            "detector": detector.digest if detector else None,
            "code": code_version(Making, find),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    waiting: deque[Callable[[], Shard]] = deque()
    rows_done = 0

    def first() -> Shard:
        nonlocal rows_done
        shard = waiting.popleft()()
        rows_done += shard.rows_in
        on_progress(rows_done, listing.rows_in)
        return shard

    for run in runs(listing, row_key):
        name = keyed_json(row_key, "shard", [made_with, run.file.name, run.digest])[:32]
        path = folder / f"{name}.parquet"
        if is_whole(path):
            os.utime(path)
            waiting.append(partial(Shard, path=path, rows_in=len(run.rows)))
        else:
            waiting.append(Making(run, search, key, row_key, path))
        if len(waiting) > AHEAD:
            yield first()
    while waiting:
        yield first()
    remove_unused(folder)


class Making:
    """A shard on its way: its rows are parsed and being searched; call it to have it written."""

    def __init__(
        self, run: RunOfRows, search: Search, key: bytes | None, row_key: bytes, path: Path
    ) -> None:
        self._policy, self._key, self._row_key, self._path = search.policy, key, row_key, path
        self._rows_in, self._source = len(run.rows), run.file.name
        self._refused: list[Refusal] = []
        self._records: list[tuple[Record, Refusal]] = []
        readings: list[Reading] = []
        wanted: list[str] = []
        for row, digest in run.rows:
            refusal = Refusal(row.position, digest)
            try:
                with row_boundary("row"):
                    reading = row.read(self._source)
                    wanted += texts(reading.record)
                readings.append(reading)
                self._records.append((reading.record, refusal))
            except RowRejected as rejected:
                self._refused.append(replace(refusal, rule=rejected.rule))
        self._readings = Readings.total(one.readings for one in readings)
        names = chain(texts_of_name(self._source), self._readings.unread)
        self._asked: Asked = search.ask(chain(wanted, names))

    def __call__(self) -> Shard:
        """Raises DataError: the policy says to stop at a row that cannot be scrubbed."""
        self._asked.wait()
        rows = []
        for record, refusal in self._records:
            try:
                with row_boundary("scrub"):
                    rows.append(self._scrubbed(record))
            except RowRejected as rejected:
                self._refused.append(replace(refusal, rule=rejected.rule))
        source = scrub_file_name(self._source, self._asked, self._policy, self._key)
        quarantined = [row.model_dump() for row in self._quarantined(source)]
        stored = {
            "source": source,
            "quarantined": json.dumps(quarantined),
            "readings": without_personal_names(self._readings, self._asked).model_dump_json(),
        }
        write(self._path, pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata(stored))
        return Shard(path=self._path, rows_in=self._rows_in)

    def _scrubbed(self, record: Record) -> dict[str, object]:
        """The row of the shard. Raises RowRejected: it cannot be scrubbed."""
        clean, found = scrub_record(record, self._asked, self._policy, self._key)
        told = NOTHING
        if found.findings or found.labelled or found.uncovered:
            told = Found.model_validate(found, from_attributes=True).model_dump_json()
        raw = keyed_json(self._row_key, "duplicate", record.content_digest)
        return as_row(clean) | {
            "raw": bytes.fromhex(raw)[:16],
            "clean": bytes.fromhex(clean.content_digest)[:16],
            "found": told,
        }

    def _quarantined(self, source: str) -> list[QuarantinedRow]:
        for refused in self._refused:
            if self._policy.on_failure == "stop" and refused.rule.startswith("scrub:"):
                raise DataError(
                    f"row {source}:{refused.position} cannot be scrubbed ({refused.rule})",
                    "take it out, or set on_failure: quarantine in the scrub policy",
                )
        return [
            QuarantinedRow(
                id=f"{source}:{refused.position}",
                rule=refused.rule,
                digest=refused.digest,
                source=source,
            )
            for refused in self._refused
        ]


def without_personal_names(readings: Readings, find: Find) -> Readings:
    """A field's name may be somebody's: such a one is counted as `other`."""

    def is_personal(name: str) -> bool:
        try:
            return bool(find(name))
        except RowRejected:  # it may be
            return True

    return readings.renamed([name for name in readings.unread if is_personal(name)])


def write(path: Path, table: pa.Table) -> None:
    """Under another name first: a shard is whole or not there.

    Raises:
        DataError: it cannot be written.
    """
    partial_path = path.with_suffix(f".{os.getpid()}.partial")
    try:
        pq.write_table(table, partial_path, compression="zstd", write_page_checksum=True)
        partial_path.rename(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise DataError(f"cannot write {path} ({reason})", "make room on its disk") from error
    finally:
        partial_path.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether there is such a shard, and as it was written."""
    try:
        pq.ParquetFile(path).close()
    except (OSError, pa.ArrowException):
        return False
    return True


def remove_unused(folder: Path) -> None:
    """Shards that no scrub has read for `UNUSED_DAYS`, and what killed ones left."""
    oldest = time.time() - 86_400 * UNUSED_DAYS
    for path in folder.iterdir():
        left = path.suffix == ".partial" and path.stat().st_mtime < time.time() - 3600
        if left or path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def counted(tables: Iterable[pa.Table]) -> dict[str, Counter[str]]:
    """Sums of what was found in the rows of tables."""
    sums: dict[str, Counter[str]] = {name: Counter() for name in Found.model_fields}
    for table in tables:
        for told, times in Counter(table["found"].to_pylist()).items():
            for name, counts in json.loads(told).items():
                for entity, count in counts.items():
                    sums[name][entity] += count * times
    return sums
